//! The bytes of a zstd stream: any number of frames, some of them empty or to be skipped.

use std::io::{self, Read};

use ruzstd::decoding::{BlockDecodingStrategy, FrameDecoder};

/// Largest window that a frame may ask the decoder to keep (2 GiB), the most that zstd's tools
/// make. Memory is what is decoded into it, no more than the trace has bytes.
const MAX_WINDOW: u64 = 1 << 31;

const MAGIC: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];

/// Whether a frame to be skipped begins so.
fn is_skippable(start: [u8; 4]) -> bool {
    matches!(start, [0x50..=0x5f, 0x2a, 0x4d, 0x18])
}

/// Whether a stream of zstd frames begins like this: with a frame of data, or one to be skipped.
pub(super) fn is_zstd(start: &[u8]) -> bool {
    start.try_into().is_ok_and(|start| start == MAGIC || is_skippable(start))
}

/// The decoded frames of `R`, one after the other.
pub(super) struct Frames<R> {
    source: R,
    /// Most bytes that its reader will take.
    limit: u64,
    /// Of the frame that is being read.
    decoder: Option<FrameDecoder>,
}

impl<R: Read> Frames<R> {
    /// A reader that takes at most about `limit` bytes decodes `source`.
    pub(super) fn new(source: R, limit: u64) -> Self {
        Self { source, limit, decoder: None }
    }

    /// Begins the next frame of data; `false` if the stream ends here.
    fn begin(&mut self) -> io::Result<bool> {
        loop {
            let mut magic = Vec::with_capacity(4);
            self.source.by_ref().take(4).read_to_end(&mut magic)?;
            let Ok(magic) = <[u8; 4]>::try_from(magic.as_slice()) else {
                return if magic.is_empty() { Ok(false) } else { Err(io::ErrorKind::UnexpectedEof.into()) };
            };
            if !is_skippable(magic) {
                self.decoder = Some(self.frame(magic)?);
                return Ok(true);
            }
            let mut length = [0; 4];
            self.source.read_exact(&mut length)?;
            let length = u64::from(u32::from_le_bytes(length));
            if io::copy(&mut self.source.by_ref().take(length), &mut io::sink())? < length {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
    }

    /// A decoder for the frame whose header begins with `magic`.
    fn frame(&mut self, magic: [u8; 4]) -> io::Result<FrameDecoder> {
        let mut header = magic.to_vec();
        let window = self.header(&mut header)?;
        // The decoder panics where it gets no memory for its window, so that is asked for here.
        let kept = window.min(self.limit);
        Vec::<u8>::new().try_reserve_exact(usize::try_from(kept.saturating_mul(3)).unwrap_or(usize::MAX))?;
        let mut decoder = FrameDecoder::new();
        decoder.set_max_window_size(MAX_WINDOW);
        decoder.init(header.as_slice()).map_err(damaged)?;
        Ok(decoder)
    }

    /// Reads the rest of a frame's header into `header`, and gives the bytes of its window.
    fn header(&mut self, header: &mut Vec<u8>) -> io::Result<u64> {
        let mut descriptor = [0];
        self.source.read_exact(&mut descriptor)?;
        header.extend(descriptor);
        let single = descriptor[0] & 0x20 != 0;
        let dictionary = [0, 1, 2, 4][usize::from(descriptor[0] & 3)];
        let size = match descriptor[0] >> 6 {
            0 => usize::from(single),
            power => 1 << power,
        };
        let mut rest = vec![0; usize::from(!single) + dictionary + size];
        self.source.read_exact(&mut rest)?;
        header.extend(&rest);
        if single {
            let mut content = [0; 8];
            content[..size].copy_from_slice(&rest[dictionary..]);
            return Ok(u64::from_le_bytes(content) + if size == 2 { 256 } else { 0 });
        }
        let base = 1_u64 << (10 + (rest[0] >> 3));
        Ok(base + base / 8 * u64::from(rest[0] & 7))
    }
}

impl<R: Read> Read for Frames<R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        loop {
            let Some(decoder) = &mut self.decoder else {
                match self.begin()? {
                    true => continue,
                    false => return Ok(0),
                }
            };
            while decoder.can_collect() == 0 && !decoder.is_finished() {
                let one = BlockDecodingStrategy::UptoBlocks(1);
                decoder.decode_blocks(&mut self.source, one).map_err(damaged)?;
            }
            let read = decoder.read(into)?;
            if read > 0 || into.is_empty() {
                return Ok(read);
            }
            if let Some(sum) = decoder.get_checksum_from_data()
                && decoder.get_calculated_checksum() != Some(sum)
            {
                return Err(damaged("the checksum of a frame is wrong"));
            }
            self.decoder = None;
        }
    }
}

fn damaged(what: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}
