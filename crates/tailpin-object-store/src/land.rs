//! What a store answers with, brought to where it is to lie.

use std::ops::Range;

use bytes::Bytes;
use futures_util::StreamExt;
use object_store::{Error, GetResultPayload, Result};
use tailpin_arena::Buffer;

/// Where one range goes.
pub(crate) enum Destination {
    Arena(Buffer),
    Heap(Vec<u8>),
}

/// A range of an object, and where it goes: as many bytes as the range has.
pub(crate) struct Landing {
    pub(crate) range: Range<u64>,
    pub(crate) place: Destination,
}

impl Destination {
    /// So many bytes of the heap, zeroed; an error where there are not so many.
    pub(crate) fn heap(bytes: u64) -> Result<Self> {
        let bytes = usize::try_from(bytes).map_err(failed)?;
        // What is wanted is asked for once before: where it is not there, this is no abort.
        Vec::<u8>::new().try_reserve_exact(bytes).map_err(failed)?;
        Ok(Self::Heap(vec![0; bytes]))
    }
}

impl Landing {
    fn bytes(&mut self) -> &mut [u8] {
        match &mut self.place {
            Destination::Arena(buffer) => buffer,
            Destination::Heap(bytes) => bytes,
        }
    }

    pub(crate) fn into_bytes(self) -> Bytes {
        match self.place {
            Destination::Arena(buffer) => Bytes::from(buffer.freeze()),
            Destination::Heap(bytes) => Bytes::from(bytes),
        }
    }

    /// Takes of `chunk`, which begins at `at` in the object, what is in its range.
    fn take(&mut self, at: u64, chunk: &[u8]) {
        let end = at.saturating_add(chunk.len() as u64);
        let (from, to) = (self.range.start.max(at), self.range.end.min(end));
        if from < to {
            let start = self.range.start;
            let part = &chunk[(from - at) as usize..(to - at) as usize];
            self.bytes()[(from - start) as usize..(to - start) as usize].copy_from_slice(part);
        }
    }
}

/// Fills `bytes` with what is in the file from `at` on. Where the system can't read at a place, the
/// file's own position moves: it was opened for one answer, and is read by nothing else.
#[cfg(feature = "fs")]
fn read_exact_at(file: &std::fs::File, bytes: &mut [u8], at: u64) -> std::io::Result<()> {
    #[cfg(unix)]
    {
        std::os::unix::fs::FileExt::read_exact_at(file, bytes, at)
    }
    #[cfg(not(unix))]
    {
        use std::io::{Read, Seek, SeekFrom};
        let mut file = file;
        file.seek(SeekFrom::Start(at))?;
        file.read_exact(bytes)
    }
}

pub(crate) fn failed(why: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Error {
    Error::Generic { store: "ArenaStore", source: why.into() }
}

/// Fills the landings, which are in the order in which they begin and within `range`, the part of
/// the object that `payload` has.
pub(crate) async fn fill(
    payload: GetResultPayload,
    range: Range<u64>,
    mut landings: Vec<Landing>,
) -> Result<Vec<Landing>> {
    match payload {
        #[cfg(feature = "fs")]
        GetResultPayload::File(file, path) => {
            // Gaps between the ranges are not read.
            let read = move || -> Result<Vec<Landing>> {
                for landing in &mut landings {
                    let at = landing.range.start;
                    let read = read_exact_at(&file, landing.bytes(), at);
                    read.map_err(|error| failed(format!("{}: {error}", path.display())))?;
                }
                Ok(landings)
            };
            match tokio::runtime::Handle::try_current() {
                Ok(runtime) => runtime.spawn_blocking(read).await.map_err(failed)?,
                Err(_) => read(),
            }
        }
        GetResultPayload::Stream(mut stream) => {
            let mut at = range.start;
            // Those before `first` are full.
            let mut first = 0;
            while let Some(chunk) = stream.next().await {
                let chunk = chunk?;
                // The store may say what it likes of where its answer begins.
                let end = at.saturating_add(chunk.len() as u64);
                let reached = landings[first..].iter_mut().take_while(|landing| landing.range.start < end);
                reached.for_each(|landing| landing.take(at, &chunk));
                first += landings[first..].iter().take_while(|landing| landing.range.end <= end).count();
                at = end;
            }
            if at < range.end {
                return Err(failed(format!("the answer ended at byte {at} of {}", range.end)));
            }
            Ok(landings)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Chunks of every length over ranges that overlap, touch and leave gaps.
    #[test]
    fn chunks_go_to_every_range_they_are_in() {
        let object: Vec<u8> = (0..200).collect();
        let ranges = [10..20, 12..15, 12..90, 20..21, 100..130, 190..200_u64];
        for chunk in 1..60 {
            let landings = ranges.iter().map(|range| Landing {
                range: range.clone(),
                place: Destination::Heap(vec![0; (range.end - range.start) as usize]),
            });
            let chunks: Vec<_> =
                object[10..].chunks(chunk).map(|chunk| Ok(Bytes::copy_from_slice(chunk))).collect();
            let payload = GetResultPayload::Stream(futures_util::stream::iter(chunks).boxed());
            let filled =
                futures_util::future::FutureExt::now_or_never(fill(payload, 10..200, landings.collect()));
            for (landing, range) in filled.unwrap().unwrap().into_iter().zip(ranges.clone()) {
                assert_eq!(landing.into_bytes(), object[range.start as usize..range.end as usize]);
            }
        }
    }

    #[test]
    fn an_answer_that_ends_early_is_an_error() {
        let chunks = [Ok(Bytes::from_static(b"abc"))];
        let payload = GetResultPayload::Stream(futures_util::stream::iter(chunks).boxed());
        let landing = Landing { range: 0..4, place: Destination::Heap(vec![0; 4]) };
        let filled =
            futures_util::future::FutureExt::now_or_never(fill(payload, 0..4, vec![landing])).unwrap();
        assert!(filled.is_err_and(|error| error.to_string().contains("byte 3 of 4")));
    }
}
