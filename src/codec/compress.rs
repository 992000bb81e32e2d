//! Packing what is about to be sealed, and unpacking it: one zstd frame (RFC 8878), or as it is.
//! format-spec/block.md, "Codecs".
//!
//! A frame is written in one form only: standard magic, content size present, no checksum (the unit is authenticated),
//! no dictionary. The reader checks that form itself before zstd sees a byte, and gives zstd a buffer of exactly the
//! authenticated length: a frame that lies about its size costs nothing.

use zstd::zstd_safe::{self, CParameter, get_error_name};

use super::unit::{Codec, TAG_BYTES};
use super::{Error, Reason, Result};

/// Largest window that a frame may ask for, as a power of two: 16 MiB, the longest block.
pub const WINDOW_LOG_MAX: u32 = 24;

/// A frame must save at least one byte in this many; otherwise the content is stored as it is, because unpacking it
/// would cost time for nothing.
const GAIN_MIN: usize = 50;

/// Working memory that is kept between calls, in bytes: 2 MiB. That is as long as blocks are made; those of one long chunk are
/// longer, and few.
pub const KEPT_MAX: usize = 2 << 20;

const STRUCTURE: &str = "compressed content";

/// Compresses; keeps its working memory between calls.
pub struct Compressor {
    context: Option<zstd_safe::CCtx<'static>>,
    /// Where a frame is made before its length is known, so that the unit is given no more room than it takes.
    frame: Vec<u8>,
}

impl Compressor {
    /// One that packs nothing: everything is stored as it is.
    #[must_use]
    pub const fn off() -> Self {
        Self { context: None, frame: Vec::new() }
    }

    /// A compressor of a zstd level (1 to 22; the default of the program is 3).
    ///
    /// # Errors
    /// [`Reason::OutOfRange`] for another level, or when zstd refuses its memory.
    pub fn new(level: i32) -> Result<Self> {
        let refuse = |field| Error::new(STRUCTURE, Reason::OutOfRange { field });
        if !(1..=zstd_safe::max_c_level()).contains(&level) {
            return Err(refuse("compression level"));
        }
        let mut context = zstd_safe::CCtx::try_create().ok_or_else(|| refuse("memory for zstd"))?;
        // Levels from 20 up would choose wider windows; the bound is ours, whatever zstd's tables say.
        let window = (level >= 20).then_some(CParameter::WindowLog(WINDOW_LOG_MAX));
        let fixed = [
            CParameter::CompressionLevel(level),
            CParameter::ContentSizeFlag(true),
            CParameter::ChecksumFlag(false),
            CParameter::DictIdFlag(false),
        ];
        for parameter in fixed.into_iter().chain(window) {
            context.set_parameter(parameter).map_err(|_| refuse("compression level"))?;
        }
        Ok(Self { context: Some(context), frame: Vec::new() })
    }

    /// Appends `plain` to `out`, as a frame when that saves at least two per cent, and says how it was packed.
    /// Data without any order costs one fast pass: zstd steps over it in growing strides.
    ///
    /// # Errors
    /// [`Reason::Decompression`] when zstd fails for another reason than a missing gain (never seen).
    pub fn compress(&mut self, plain: &[u8], out: &mut Vec<u8>) -> Result<Codec> {
        let Some(context) = &mut self.context else {
            out.reserve_exact(plain.len() + TAG_BYTES);
            out.extend_from_slice(plain);
            return Ok(Codec::Stored);
        };
        let room = plain.len() - plain.len().div_ceil(GAIN_MIN);
        if self.frame.len() < room {
            // Left to grow by itself it would take up to twice what it holds.
            self.frame.reserve_exact(room - self.frame.len());
            self.frame.resize(room, 0);
        }
        let codec = match context.compress2(&mut self.frame[..room], plain) {
            Ok(length) => {
                out.reserve_exact(length + TAG_BYTES);
                out.extend_from_slice(&self.frame[..length]);
                Codec::Zstd
            }
            Err(code) if is_too_small(code) => {
                out.reserve_exact(plain.len() + TAG_BYTES);
                out.extend_from_slice(plain);
                Codec::Stored
            }
            Err(_) => return Err(Error::new(STRUCTURE, Reason::Decompression)),
        };
        if self.frame.len() > KEPT_MAX {
            self.frame = Vec::new();
        }
        Ok(codec)
    }
}

/// True when zstd gave up because the frame would not fit (`ZSTD_error_dstSize_tooSmall`).
fn is_too_small(code: usize) -> bool {
    get_error_name(code) == "Destination buffer is too small"
}

/// Unpacks; keeps its working memory between calls.
pub struct Decompressor {
    context: zstd_safe::DCtx<'static>,
}

impl Decompressor {
    /// A decompressor.
    ///
    /// # Errors
    /// [`Reason::OutOfRange`] when zstd refuses its memory.
    pub fn new() -> Result<Self> {
        let refuse = || Error::new(STRUCTURE, Reason::OutOfRange { field: "memory for zstd" });
        Ok(Self { context: zstd_safe::DCtx::try_create().ok_or_else(refuse)? })
    }

    /// The plain bytes of `content`, exactly `plain_length` of them. The caller has checked that length against its
    /// limit; no more than it is ever allocated.
    ///
    /// # Errors
    /// [`Reason::PlainLength`] when the content says or has another length; [`Reason::Decompression`] for anything that
    /// is not one frame in the form of format-spec/block.md: another magic (skippable and legacy frames), a dictionary, a
    /// checksum, a window over 16 MiB, damage; [`Reason::TrailingBytes`] for bytes behind the frame.
    pub fn decompress(&mut self, codec: Codec, content: &[u8], plain_length: u32) -> Result<Vec<u8>> {
        let mut plain = Vec::new();
        self.decompress_into(&mut plain, codec, content, plain_length)?;
        Ok(plain)
    }

    /// As [`Decompressor::decompress`], in the place of what `plain` held; its content is meaningless after an error.
    ///
    /// # Errors
    /// As [`Decompressor::decompress`].
    pub fn decompress_into(
        &mut self,
        plain: &mut Vec<u8>,
        codec: Codec,
        content: &[u8],
        plain_length: u32,
    ) -> Result<()> {
        let refuse = |reason| Err(Error::new(STRUCTURE, reason));
        let length = plain_length as usize;
        match codec {
            Codec::Stored if content.len() == length => {
                plain.clear();
                plain.reserve_exact(length);
                plain.extend_from_slice(content);
                Ok(())
            }
            Codec::Stored => refuse(Reason::PlainLength),
            Codec::Zstd => {
                if frame_content_size(content)? != u64::from(plain_length) {
                    return refuse(Reason::PlainLength);
                }
                match zstd_safe::find_frame_compressed_size(content) {
                    Ok(frame) if frame == content.len() => {}
                    Ok(frame) if frame < content.len() => return refuse(Reason::TrailingBytes),
                    _ => return refuse(Reason::Decompression),
                }
                plain.truncate(length);
                plain.reserve_exact(length - plain.len());
                plain.resize(length, 0);
                match self.context.decompress(&mut plain[..], content) {
                    Ok(found) if found == length => Ok(()),
                    Ok(_) => refuse(Reason::PlainLength),
                    Err(_) => refuse(Reason::Decompression),
                }
            }
        }
    }
}

/// Reads a frame's header (RFC 8878, section 3.1.1.1), refuses every form that is not ours, and returns the content
/// size in it.
fn frame_content_size(content: &[u8]) -> Result<u64> {
    let refuse = Error::new(STRUCTURE, Reason::Decompression);
    let header = || -> Option<u64> {
        let (magic, rest) = content.split_first_chunk::<4>()?;
        let (&descriptor, rest) = rest.split_first()?;
        // Bits: content size 7..6, single segment 5, unused 4, reserved 3, checksum 2, dictionary id 1..0.
        if u32::from_le_bytes(*magic) != 0xfd2f_b528 || descriptor & 0b0001_1111 != 0 {
            return None;
        }
        let is_single_segment = descriptor & 0b0010_0000 != 0;
        let rest = if is_single_segment {
            rest
        } else {
            let (&window, rest) = rest.split_first()?;
            let base = 1_u64 << (10 + (window >> 3));
            if base + base / 8 * u64::from(window & 7) > 1 << WINDOW_LOG_MAX {
                return None;
            }
            rest
        };
        let size = match (descriptor >> 6, is_single_segment) {
            (0, true) => u64::from(*rest.first()?),
            (0, false) => return None,
            (1, _) => u64::from(u16::from_le_bytes(*rest.first_chunk()?)) + 256,
            (2, _) => u64::from(u32::from_le_bytes(*rest.first_chunk()?)),
            _ => u64::from_le_bytes(*rest.first_chunk()?),
        };
        // Of a single segment the window is the content itself.
        (!is_single_segment || size <= 1 << WINDOW_LOG_MAX).then_some(size)
    };
    header().ok_or(refuse)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn text(length: usize) -> Vec<u8> {
        b"a line that comes again and again; ".iter().copied().cycle().take(length).collect()
    }

    fn noise(length: usize) -> Vec<u8> {
        let mut bytes = vec![0; length];
        blake3::Hasher::new().finalize_xof().fill(&mut bytes);
        bytes
    }

    fn frame(plain: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        assert_eq!(Compressor::new(3).unwrap().compress(plain, &mut out).unwrap(), Codec::Zstd);
        out
    }

    fn reason(content: &[u8], plain_length: u32) -> Reason {
        Decompressor::new().unwrap().decompress(Codec::Zstd, content, plain_length).unwrap_err().reason
    }

    #[test]
    fn every_length_comes_back_behind_what_was_there() {
        for level in [1, 3, 19, 22] {
            let (mut compressor, mut decompressor) = (Compressor::new(level).unwrap(), Decompressor::new().unwrap());
            for length in [0, 1, 2, 49, 100, 255, 256, 65_791, 65_792, 300_000] {
                for plain in [text(length), noise(length)] {
                    let mut out = b"prefix".to_vec();
                    let codec = compressor.compress(&plain, &mut out).unwrap();
                    assert_eq!(&out[..6], b"prefix");
                    assert!(out.len() - 6 <= plain.len());
                    let back = decompressor.decompress(codec, &out[6..], u32::try_from(length).unwrap()).unwrap();
                    assert_eq!(back, plain, "level {level}, {length} bytes");
                }
            }
        }
    }

    #[test]
    fn what_does_not_shrink_is_stored() {
        let mut out = Vec::new();
        assert_eq!(Compressor::new(3).unwrap().compress(&noise(100_000), &mut out).unwrap(), Codec::Stored);
        assert_eq!(out, noise(100_000));
        assert!(Compressor::new(0).is_err() && Compressor::new(23).is_err());
    }

    #[test]
    fn other_lengths_than_the_authenticated_one_are_refused() {
        let packed = frame(&text(5000));
        assert_eq!(reason(&packed, 4999), Reason::PlainLength);
        assert_eq!(reason(&packed, 5001), Reason::PlainLength);
        let mut decompressor = Decompressor::new().unwrap();
        let stored = decompressor.decompress(Codec::Stored, b"abc", 4);
        assert_eq!(stored.unwrap_err().reason, Reason::PlainLength);
    }

    #[test]
    fn only_one_frame_of_our_form_is_read() {
        let packed = frame(&text(5000));
        let behind = |extra: &[u8]| [&packed, extra].concat();
        assert_eq!(reason(&behind(b"\0"), 5000), Reason::TrailingBytes);
        assert_eq!(reason(&behind(&packed), 5000), Reason::TrailingBytes);
        let skippable = [&[0x50, 0x2a, 0x4d, 0x18, 0, 0, 0, 0][..], &packed].concat();
        assert_eq!(reason(&skippable, 5000), Reason::Decompression);
        assert_eq!(reason(&packed[..packed.len() - 1], 5000), Reason::Decompression);
        for bit in 0..5 {
            let mut other = packed.clone();
            other[4] |= 1 << bit;
            assert_eq!(reason(&other, 5000), Reason::Decompression, "descriptor bit {bit}");
        }
        assert_eq!(reason(b"", 0), Reason::Decompression);
    }

    #[test]
    fn bombs_allocate_no_more_than_the_authenticated_length() {
        // RLE blocks of 128 KiB each, four bytes a block, and a header that promises 2^62 bytes.
        let block = |last: u32| (last | 1 << 1 | (128 << 10) << 3).to_le_bytes()[..3].to_vec();
        let header = |size: u64| [&[0x28, 0xb5, 0x2f, 0xfd, 0xc0, 14 << 3][..], &size.to_le_bytes()].concat();
        let bomb = |size| {
            let mut bomb = header(size);
            for _ in 0..1000 {
                bomb.extend([block(0), vec![0]].concat());
            }
            bomb.extend([block(1), vec![0]].concat());
            bomb
        };
        assert_eq!(reason(&bomb(1 << 62), 1 << 20), Reason::PlainLength);
        assert_eq!(reason(&bomb(1 << 20), 1 << 20), Reason::Decompression);
        let mut wide = bomb(1 << 20);
        wide[5] = 15 << 3;
        assert_eq!(reason(&wide, 1 << 20), Reason::Decompression);
    }
}
