//! The bytes of a zstd stream: any number of frames, some of them empty or to be skipped.

use std::io::{self, Read};

use ruzstd::decoding::{BlockDecodingStrategy, FrameDecoder};

/// Largest window that a frame may ask the decoder to keep (2 GiB), the most that zstd's tools
/// make. Memory is what is decoded into it, no more than the trace has bytes.
const MAX_WINDOW: u64 = 1 << 31;

/// Most bytes that one block decodes to.
const MOST_OF_BLOCK: u64 = 1 << 17;

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
    frame: Option<Frame>,
}

/// A frame that is being read.
struct Frame {
    decoder: FrameDecoder,
    /// Bytes that the decoder keeps of what it has decoded.
    window: u64,
    /// Bytes decoded so far, at most.
    decoded: u64,
}

impl Frame {
    /// Decodes one block more.
    fn decode_block(&mut self, source: impl Read) -> io::Result<()> {
        self.find_room()?;
        let one = BlockDecodingStrategy::UptoBlocks(1);
        self.decoder.decode_blocks(source, one).map_err(damaged)?;
        self.decoded = self.decoded.saturating_add(MOST_OF_BLOCK);
        Ok(())
    }

    /// Looks whether there is memory for one block more: the decoder panics where it gets none. It
    /// doubles what it has until that is the window, whose size alone says nothing of how much will
    /// ever be in it.
    fn find_room(&self) -> io::Result<()> {
        let kept = self.decoded.min(self.window).saturating_add(MOST_OF_BLOCK);
        if self.decoded > self.window.saturating_add(2 * MOST_OF_BLOCK) {
            // It has all that it will ever ask for.
            return Ok(());
        }
        let most = kept.saturating_mul(2).saturating_add(4 * MOST_OF_BLOCK);
        Vec::<u8>::new().try_reserve_exact(usize::try_from(most).unwrap_or(usize::MAX))?;
        Ok(())
    }
}

impl<R: Read> Frames<R> {
    pub(super) fn new(source: R) -> Self {
        Self { source, frame: None }
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
                self.frame = Some(self.frame(magic)?);
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

    /// The frame whose header begins with `magic`.
    fn frame(&mut self, magic: [u8; 4]) -> io::Result<Frame> {
        let mut header = magic.to_vec();
        let window = self.header(&mut header)?;
        // A decoder that was used before would ask for the whole window at once.
        let mut decoder = FrameDecoder::new();
        decoder.set_max_window_size(MAX_WINDOW);
        decoder.init(header.as_slice()).map_err(damaged)?;
        Ok(Frame { decoder, window, decoded: 0 })
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
            let Some(frame) = &mut self.frame else {
                match self.begin()? {
                    true => continue,
                    false => return Ok(0),
                }
            };
            while frame.decoder.can_collect() == 0 && !frame.decoder.is_finished() {
                frame.decode_block(&mut self.source)?;
            }
            let decoder = &mut frame.decoder;
            let read = decoder.read(into)?;
            if read > 0 || into.is_empty() {
                return Ok(read);
            }
            if let Some(sum) = decoder.get_checksum_from_data()
                && decoder.get_calculated_checksum() != Some(sum)
            {
                return Err(damaged("the checksum of a frame is wrong"));
            }
            self.frame = None;
        }
    }
}

fn damaged(what: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}
