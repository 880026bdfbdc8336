//! The log that is read: numbered records of one size in a real file, made once and used again.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufWriter, Read, Write};
use std::ops::RangeInclusive;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// What the first page of a log says.
const MAGIC: &[u8; 16] = b"tailpin log 1.0\n";
/// Records begin on a page of their own.
pub(crate) const HEADER: u64 = 4096;
/// A record holds at least its number and one word made from it.
pub(crate) const LEAST_RECORD: u32 = 16;
/// Bytes that a record may have.
pub(crate) const RECORDS: RangeInclusive<i64> = LEAST_RECORD as i64..=1 << 20;
/// Most bytes of all records together: an exbibyte.
pub(crate) const MOST_BYTES: u64 = 1 << 60;

/// Size of the records and how many there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Shape {
    /// Bytes of a record.
    pub(crate) record: u32,
    /// How many.
    pub(crate) records: u64,
}

impl Shape {
    /// As many whole records as `bytes` hold.
    pub(crate) fn filling(bytes: u64, record: u32) -> Self {
        Self { record, records: bytes / u64::from(record) }
    }

    /// Bytes of all records together.
    pub(crate) fn bytes(self) -> u64 {
        self.records * u64::from(self.record)
    }

    fn header(self) -> [u8; 32] {
        let mut header = [0; 32];
        header[..16].copy_from_slice(MAGIC);
        header[16..24].copy_from_slice(&u64::from(self.record).to_le_bytes());
        header[24..].copy_from_slice(&self.records.to_le_bytes());
        header
    }
}

/// Spreads numbers evenly over all 64-bit values (the finalizer of SplitMix64).
fn spread(number: u64) -> u64 {
    let mut z = number.wrapping_add(0x9E37_79B9_7F4A_7C15);
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

/// Whether record `number` is among those that survive: the same ones in every run.
pub(crate) fn survives(number: u64, keep: f64) -> bool {
    // 53 bits, which a double holds exactly.
    ((spread(number) >> 11) as f64) < keep * (1_u64 << 53) as f64
}

/// The number of a record.
pub(crate) fn number(record: &[u8]) -> u64 {
    u64::from_le_bytes(record[..8].try_into().expect("a record has eight bytes for its number"))
}

/// Writes record `number`: the number, then words made from number and place, cut off at the end.
fn write_record(record: &mut [u8], number: u64) {
    let word = spread(number);
    for (i, place) in record.chunks_mut(8).enumerate() {
        let value = if i == 0 { number } else { word.wrapping_add(i as u64) };
        place.copy_from_slice(&value.to_le_bytes()[..place.len()]);
    }
}

/// Whether these bytes are record `number`, every one of them.
pub(crate) fn is_record(record: &[u8], wanted: u64) -> bool {
    let word = spread(wanted);
    record.chunks(8).enumerate().all(|(i, place)| {
        let value = if i == 0 { wanted } else { word.wrapping_add(i as u64) };
        place == &value.to_le_bytes()[..place.len()]
    })
}

/// Where the log of this shape lies.
pub(crate) fn path(dir: &Path, shape: Shape) -> PathBuf {
    dir.join(format!("retain-{}x{}.log", shape.records, shape.record))
}

/// The user's cache.
pub(crate) fn default_dir() -> PathBuf {
    let variable = |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    variable("XDG_CACHE_HOME")
        .or_else(|| Some(variable("HOME")?.join(".cache")))
        .unwrap_or_else(std::env::temp_dir)
        .join("tailpin")
}

/// Opens the log of this shape in `dir`, making it first if it isn't there or is another.
/// `progress` is told of bytes written.
pub(crate) fn open_or_make(dir: &Path, shape: Shape, mut progress: impl FnMut(u64)) -> io::Result<File> {
    let path = path(dir, shape);
    if let Ok(file) = open(&path, shape) {
        return Ok(file);
    }
    fs::create_dir_all(dir)?;
    // No other run finds a log that is half written.
    let unfinished = path.with_extension(format!("{}.part", std::process::id()));
    let made = make(&unfinished, shape, &mut progress).and_then(|()| fs::rename(&unfinished, &path));
    if let Err(error) = made {
        let _ = fs::remove_file(&unfinished);
        return Err(error);
    }
    open(&path, shape)
}

/// Opens a log that is there.
pub(crate) fn open(path: &Path, shape: Shape) -> io::Result<File> {
    let file = OpenOptions::new().read(true).custom_flags(libc::O_NOFOLLOW).open(path)?;
    let mut header = [0; 32];
    file.read_exact_at(&mut header, 0)?;
    if header != shape.header() || file.metadata()?.len() != HEADER + shape.bytes() {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "not a log of this shape"));
    }
    Ok(file)
}

fn make(path: &Path, shape: Shape, progress: &mut dyn FnMut(u64)) -> io::Result<()> {
    let file = OpenOptions::new().write(true).create_new(true).open(path)?;
    let mut out = BufWriter::with_capacity(1 << 20, file);
    let mut page = [0; HEADER as usize];
    page[..32].copy_from_slice(&shape.header());
    out.write_all(&page)?;
    let mut record = vec![0; shape.record as usize];
    for number in 0..shape.records {
        write_record(&mut record, number);
        out.write_all(&record)?;
        progress(u64::from(shape.record));
    }
    out.into_inner()?.sync_all()
}

/// Reads the file once, so that all back ends find it in the page cache, charged to none of the
/// processes that are measured.
pub(crate) fn warm(mut file: &File) -> io::Result<()> {
    let mut buffer = vec![0; 1 << 20];
    while file.read(&mut buffer)? > 0 {}
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::{Shape, is_record, number, open, open_or_make, path, survives, write_record};

    #[test]
    fn a_record_is_known_by_every_byte() {
        for len in [16, 17, 64, 1000] {
            let mut record = vec![0; len];
            write_record(&mut record, 77);
            assert_eq!(number(&record), 77);
            assert!(is_record(&record, 77) && !is_record(&record, 78));
            for at in 0..len {
                record[at] ^= 1;
                assert!(!is_record(&record, 77), "byte {at} of {len}");
                record[at] ^= 1;
            }
        }
    }

    #[test]
    fn about_as_many_survive_as_asked_for() {
        for keep in [0.0, 0.01, 0.3, 1.0] {
            let kept = (0..100_000).filter(|&number| survives(number, keep)).count();
            assert!((kept as f64 / 100_000.0 - keep).abs() < 0.005, "{keep}: {kept}");
        }
    }

    #[test]
    fn a_log_is_made_once_and_another_is_not_taken_for_it() {
        let dir = std::env::temp_dir().join(format!("tailpin-log-{}", std::process::id()));
        let shape = Shape::filling(100_000, 1000);
        let mut written = 0;
        open_or_make(&dir, shape, |bytes| written += bytes).unwrap();
        assert_eq!(written, 100_000);
        open_or_make(&dir, shape, |_| panic!("it was there")).unwrap();

        let file = path(&dir, shape);
        assert!(open(&file, Shape { records: 99, ..shape }).is_err());
        // Cut short: made again.
        std::fs::OpenOptions::new().write(true).open(&file).unwrap().set_len(5000).unwrap();
        written = 0;
        open_or_make(&dir, shape, |bytes| written += bytes).unwrap();
        assert_eq!(written, 100_000);
        std::fs::remove_dir_all(&dir).unwrap();
    }
}
