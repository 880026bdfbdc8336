//! The kernel's trace buffer as it comes from `trace_pipe_raw`, and the formats of its events.

/// What is recorded of an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum What {
    Alloc {
        pfn: u64,
        order: u64,
        flags: u64,
        migratetype: u64,
    },
    Free {
        pfn: u64,
        order: u64,
    },
    /// khugepaged looked at 2 MiB.
    Scan {
        pfn: u64,
    },
}

/// An event of the kernel's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Event {
    pub(crate) ns: u64,
    pub(crate) cpu: u8,
    /// The thread that the CPU ran.
    pub(crate) thread: i32,
    pub(crate) what: What,
}

/// Which event a format is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Alloc,
    Free,
    Scan,
}

impl Kind {
    /// The tracepoint, as a path below `events`.
    pub(crate) fn path(self) -> &'static str {
        match self {
            Self::Alloc => "kmem/mm_page_alloc",
            Self::Free => "kmem/mm_page_free",
            Self::Scan => "huge_memory/mm_khugepaged_scan_pmd",
        }
    }

    fn fields(self) -> &'static [&'static str] {
        match self {
            Self::Alloc => &["pfn", "order", "gfp_flags", "migratetype"],
            Self::Free => &["pfn", "order"],
            Self::Scan => &["pfn"],
        }
    }
}

/// A field's place in an event.
type FieldRange = (usize, usize);

/// Where an event has its fields.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Format {
    kind: Kind,
    id: u64,
    thread: FieldRange,
    fields: Vec<FieldRange>,
}

impl Format {
    /// The format of an event, as the kernel's file tells it; an error names what is missing.
    pub(crate) fn parse(kind: Kind, text: &str) -> Result<Self, String> {
        let missing = |what: &str| format!("the format of {} has no {what}", kind.path());
        let id = text.lines().find_map(|line| line.strip_prefix("ID: ")?.trim().parse().ok());
        let place = |name: &str| {
            let line = text.lines().find_map(|line| {
                let parts = line.trim().strip_prefix("field:")?;
                let (declared, rest) = parts.split_once(';')?;
                (declared.rsplit(' ').next()? == name).then_some(rest)
            });
            let number = |key: &str| {
                let (_, rest) = line?.split_once(key)?;
                rest.split(';').next()?.parse::<usize>().ok()
            };
            match (number("offset:"), number("size:")) {
                (Some(offset), Some(size @ 1..=8)) => Ok((offset, size)),
                _ => Err(missing(&format!("field {name}"))),
            }
        };
        Ok(Self {
            kind,
            id: id.ok_or_else(|| missing("number"))?,
            thread: place("common_pid")?,
            fields: kind.fields().iter().map(|name| place(name)).collect::<Result<_, _>>()?,
        })
    }

    fn decode(&self, bytes: &[u8]) -> Option<(i32, What)> {
        let field = |i: usize| number(bytes, *self.fields.get(i)?);
        let what = match self.kind {
            Kind::Alloc => {
                What::Alloc { pfn: field(0)?, order: field(1)?, flags: field(2)?, migratetype: field(3)? }
            }
            Kind::Free => What::Free { pfn: field(0)?, order: field(1)? },
            Kind::Scan => What::Scan { pfn: field(0)? },
        };
        Some((number(bytes, self.thread)? as i32, what))
    }
}

/// A number of up to eight bytes, little endian; `None` beyond the end.
fn number(bytes: &[u8], (offset, size): FieldRange) -> Option<u64> {
    let bytes = bytes.get(offset..offset.checked_add(size)?)?;
    Some(bytes.iter().rev().fold(0, |number, byte| number << 8 | u64::from(*byte)))
}

/// Before the events of a sub-buffer: a time, and how many bytes of events follow.
const HEAD: usize = 16;
/// The lower bits of the second word of a head; above them are flags, such as that events were lost
/// before this sub-buffer.
const LENGTH: u64 = 0xf_ffff;

/// Kinds of entries that are no events.
const PADDING: u32 = 29;
const TIME_EXTEND: u32 = 30;
const TIME_STAMP: u32 = 31;

/// How long the used part of a sub-buffer is, head included; `None` if there are no events in it.
pub(crate) fn used(subbuffer: &[u8]) -> Option<usize> {
    let length = (number(subbuffer, (8, 8))? & LENGTH) as usize;
    (length > 0).then(|| (HEAD + length).min(subbuffer.len()))
}

/// Calls `each` with the events of sub-buffers, used parts one behind the other, all of one CPU.
/// What makes no sense ends the sub-buffer it is in.
pub(crate) fn events(raw: &[u8], cpu: u8, formats: &[Format], each: &mut impl FnMut(Event)) {
    let mut rest = raw;
    while let Some(used) = used(rest) {
        let (subbuffer, next) = rest.split_at(used);
        let _ = entries(subbuffer, cpu, formats, each);
        rest = next;
    }
}

fn entries(subbuffer: &[u8], cpu: u8, formats: &[Format], each: &mut impl FnMut(Event)) -> Option<()> {
    let mut ns = number(subbuffer, (0, 8))?;
    let mut at = HEAD;
    while at + 4 <= subbuffer.len() {
        let head = number(subbuffer, (at, 4))? as u32;
        let (kind, delta) = (head & 31, u64::from(head >> 5));
        let word = |i: usize| number(subbuffer, (at + 4 * i, 4));
        let (begin, end) = match kind {
            // The rest of the sub-buffer.
            PADDING if delta == 0 => return None,
            PADDING => (0, at + 4 + word(1)? as usize),
            TIME_EXTEND | TIME_STAMP => {
                let time = (word(1)? << 27) + delta;
                // A stamp has 59 bits, and the upper ones as before.
                ns = if kind == TIME_EXTEND { ns + time } else { ns >> 59 << 59 | time };
                (0, at + 8)
            }
            0 => (at + 8, at + 4 + word(1)? as usize),
            words => (at + 4, at + 4 + 4 * words as usize),
        };
        if begin > 0 {
            ns += delta;
            let bytes = subbuffer.get(begin..end)?;
            let id = number(bytes, (0, 2))?;
            let format = formats.iter().find(|format| format.id == id);
            if let Some((thread, what)) = format.and_then(|format| format.decode(bytes)) {
                each(Event { ns, cpu, thread, what });
            }
        } else if kind == PADDING {
            ns += delta;
        }
        if end <= at {
            return None;
        }
        at = end;
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a kernel 6.18 wrote on one CPU: the first two sub-buffers, and the same events as its
    /// own text.
    const RAW: &[u8] = include_bytes!("../../tests/tracefs/cpu0.raw");
    const TEXT: &str = include_str!("../../tests/tracefs/cpu0.txt");

    fn formats() -> Vec<Format> {
        vec![
            Format::parse(Kind::Alloc, include_str!("../../tests/tracefs/mm_page_alloc.format")).unwrap(),
            Format::parse(Kind::Free, include_str!("../../tests/tracefs/mm_page_free.format")).unwrap(),
            Format::parse(Kind::Scan, include_str!("../../tests/tracefs/mm_khugepaged_scan_pmd.format"))
                .unwrap(),
        ]
    }

    fn decoded(raw: &[u8]) -> Vec<Event> {
        let mut all = Vec::new();
        events(raw, 0, &formats(), &mut |event| all.push(event));
        all
    }

    /// A line of the kernel's text: microseconds, thread, event without its flags.
    fn told(line: &str) -> (u64, i32, What) {
        let (thread, rest) = line.strip_prefix("task-").unwrap().split_once(' ').unwrap();
        let (time, rest) = rest.split_once(": ").unwrap();
        let time = time.rsplit(' ').next().unwrap().replace('.', "");
        let field = |name: &str| {
            let value = rest.split_whitespace().find_map(|word| word.strip_prefix(name)).unwrap();
            let (digits, radix) = value.strip_prefix("0x").map_or((value, 10), |hex| (hex, 16));
            u64::from_str_radix(digits, radix).unwrap()
        };
        let (pfn, order) = (field("pfn="), field("order="));
        let what = if rest.starts_with("mm_page_alloc: ") {
            What::Alloc { pfn, order, flags: 0, migratetype: field("migratetype=") }
        } else {
            assert!(rest.starts_with("mm_page_free: "), "{line}");
            What::Free { pfn, order }
        };
        (time.parse().unwrap(), thread.parse().unwrap(), what)
    }

    #[test]
    fn the_buffer_says_what_the_kernels_text_says() {
        let events = decoded(RAW);
        let lines: Vec<&str> = TEXT.lines().collect();
        assert_eq!(events.len(), lines.len());
        let mut allocs = 0;
        for (event, line) in events.iter().zip(lines) {
            let (us, thread, expected) = told(line);
            let without_flags = match event.what {
                What::Alloc { pfn, order, flags, migratetype } => {
                    allocs += 1;
                    assert_eq!(flags != 0, !line.contains("gfp_flags=none"), "{line}");
                    What::Alloc { pfn, order, flags: 0, migratetype }
                }
                other => other,
            };
            // The text rounds to microseconds.
            assert!(event.ns.abs_diff(us * 1000) <= 1000, "{} {line}", event.ns);
            assert_eq!((event.thread, without_flags), (thread, expected), "{line}");
        }
        assert!(allocs > 20 && events.len() - allocs > 20);
        assert!(events.is_sorted_by_key(|event| event.ns));
    }

    /// Nothing that a buffer says leads beyond it.
    #[test]
    fn a_buffer_that_is_cut_short_or_damaged_is_read_as_far_as_it_goes() {
        let whole = decoded(RAW);
        for end in (0..RAW.len()).step_by(7) {
            let some = decoded(&RAW[..end]);
            assert!(some.len() <= whole.len() && some == whole[..some.len()], "{end}");
        }
        let mut seed = 3_u64;
        for _ in 0..2000 {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let mut damaged = RAW.to_vec();
            damaged[(seed >> 20) as usize % RAW.len()] ^= (seed >> 52) as u8 | 1;
            decoded(&damaged);
        }
        assert_eq!(used(&[0; 4096]), None);
    }

    #[test]
    fn times_go_on_over_extensions_stamps_and_padding() {
        let alloc = &formats()[1];
        let mut raw = Vec::new();
        let word = |raw: &mut Vec<u8>, word: u32| raw.extend_from_slice(&word.to_le_bytes());
        let event = |raw: &mut Vec<u8>, delta: u32| {
            word(raw, 5 | delta << 5);
            word(raw, alloc.id as u32);
            word(raw, 77);
            [9, 0, 0].into_iter().for_each(|part| word(raw, part));
        };
        raw.extend_from_slice(&1_000_u64.to_le_bytes());
        raw.extend_from_slice(&0_u64.to_le_bytes());
        event(&mut raw, 10);
        word(&mut raw, TIME_EXTEND | 1 << 5);
        word(&mut raw, 1);
        event(&mut raw, 0);
        word(&mut raw, TIME_STAMP | 5 << 5);
        word(&mut raw, 2);
        event(&mut raw, 1);
        // An event that was taken back: eight bytes of padding.
        word(&mut raw, PADDING | 3 << 5);
        word(&mut raw, 8);
        word(&mut raw, 0);
        event(&mut raw, 0);
        word(&mut raw, PADDING);
        let length = raw.len() as u64 - 16;
        raw[8..16].copy_from_slice(&length.to_le_bytes());
        let second = (1 << 27) + 1 + 1010;
        let third = (2 << 27) + 5 + 1;
        let times: Vec<u64> = decoded(&raw).iter().map(|event| event.ns).collect();
        assert_eq!(times, [1010, second, third, third + 3]);
        assert!(
            decoded(&raw)
                .iter()
                .all(|event| (event.thread, event.what) == (77, What::Free { pfn: 9, order: 0 }))
        );
    }

    #[test]
    fn a_format_without_a_field_says_so() {
        let text = include_str!("../../tests/tracefs/mm_page_free.format");
        assert_eq!(Format::parse(Kind::Free, text).unwrap().fields, [(8, 8), (16, 4)]);
        let error = Format::parse(Kind::Free, &text.replace(" order;", " size;")).unwrap_err();
        assert!(error.contains("kmem/mm_page_free") && error.contains("order"), "{error}");
        assert!(Format::parse(Kind::Free, "").unwrap_err().contains("number"));
    }
}
