//! The bytes of an object on its way to a mirror, wherever they are.

use bytes::Bytes;

use super::Result;

/// See the module. Pieces are asked for in order; whoever has to begin again asks for the one at 0.
pub trait Body: Sync {
    /// All of it, in bytes.
    fn length(&self) -> u64;

    /// So many bytes from `offset` on; never beyond the end.
    ///
    /// # Errors
    /// They cannot be read, or are not what they should be. The object is then not stored.
    fn piece(&self, offset: u64, length: u64) -> Result<Bytes>;
}

impl Body for Bytes {
    fn length(&self) -> u64 {
        self.len() as u64
    }

    fn piece(&self, offset: u64, length: u64) -> Result<Bytes> {
        let end = offset.saturating_add(length).min(self.length());
        Ok(self.slice(offset.min(end) as usize..end as usize))
    }
}

/// The pieces of a body from its beginning, of at most `bytes` each.
pub fn pieces(body: &dyn Body, bytes: u64) -> impl Iterator<Item = Result<Bytes>> + '_ {
    let mut at = 0;
    std::iter::from_fn(move || {
        let length = bytes.min(body.length() - at);
        (length > 0).then(|| {
            let piece = body.piece(at, length);
            at += length;
            piece
        })
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn pieces_make_the_whole() {
        let body = Bytes::from_static(b"0123456789");
        for size in [1, 3, 5, 10, 11] {
            let all: Vec<Bytes> = pieces(&body, size).map(Result::unwrap).collect();
            assert_eq!(all.concat(), body);
            assert!(all.iter().all(|piece| piece.len() as u64 <= size));
        }
        assert_eq!(pieces(&Bytes::new(), 4).count(), 0);
        assert_eq!(body.piece(8, 100).unwrap(), "89");
        assert_eq!(body.piece(100, 1).unwrap(), "");
    }
}
