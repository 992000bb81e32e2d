//! tar: POSIX.1-2001 pax archives. What an ustar header cannot hold exactly stands in an extended header before it.
//! Source: IEEE Std 1003.1-2017, pax, "pax Interchange Format"; extended attributes as star, GNU tar and libarchive
//! write them (`SCHILY.xattr.`).
//!
//! Names are bytes. POSIX says that extended headers are UTF-8 unless `hdrcharset=BINARY` stands before them, so that is
//! written where they are not; programs that do not know it say so and take the bytes as they are.

use std::io;

use ::tar::{EntryType, Header};

use super::{Begun, Finish, Packer};
use crate::base::time::Time;
use crate::codec::tree::{Entry, Metadata, Node};

/// Everything in a tar is padded to this, in bytes.
const BLOCK_BYTES: usize = 512;
/// Longest name in an ustar header, in bytes.
const NAME_BYTES: usize = 100;
/// Longest name of a user or group in an ustar header, in bytes, without its NUL.
const OWNER_BYTES: usize = 31;
/// Largest size and time that 11 octal digits hold.
const OCTAL_11_MAX: u64 = 0o77_777_777_777;
/// Largest owner that 7 octal digits hold.
const OCTAL_7_MAX: u32 = 0o7_777_777;

/// A tar on its way.
pub(super) struct Tar<W> {
    to: W,
    /// Content of the current entry that was written, in bytes.
    written: u64,
}

impl<W: Finish> Tar<W> {
    pub(super) const fn new(to: W) -> Self {
        Self { to, written: 0 }
    }

    fn pad(&mut self) -> io::Result<()> {
        let over = (self.written % BLOCK_BYTES as u64) as usize;
        if over > 0 {
            self.to.write_all(&[0; BLOCK_BYTES][over..])?;
        }
        self.written = 0;
        Ok(())
    }

    fn extended(&mut self, records: &Records) -> io::Result<()> {
        if records.bytes.is_empty() {
            return Ok(());
        }
        let mut header = Header::new_ustar();
        name_into(&mut header, b"././@PaxHeader");
        header.set_entry_type(EntryType::XHeader);
        header.set_mode(0o644);
        header.set_size((records.charset().len() + records.bytes.len()) as u64);
        header.set_cksum();
        self.to.write_all(header.as_bytes())?;
        for part in [records.charset(), &records.bytes] {
            self.to.write_all(part)?;
            self.written += part.len() as u64;
        }
        self.pad()
    }
}

/// Puts the beginning of a name into the header's field; the whole of it stands in the extended header when it is longer.
fn name_into(header: &mut Header, name: &[u8]) {
    if let Some(ustar) = header.as_ustar_mut() {
        ustar.name.iter_mut().zip(name).for_each(|(field, byte)| *field = *byte);
    }
}

/// The records of an extended header.
#[derive(Default)]
struct Records {
    bytes: Vec<u8>,
    binary: bool,
}

impl Records {
    /// Adds `length key=value\n`; the length counts itself.
    fn add(&mut self, key: &[u8], value: &[u8]) {
        let rest = key.len() + value.len() + 3;
        let mut length = rest + 1;
        while length.to_string().len() + rest != length {
            length = length.to_string().len() + rest;
        }
        self.bytes.extend_from_slice(format!("{length} ").as_bytes());
        for part in [key, b"=", value, b"\n"] {
            self.bytes.extend_from_slice(part);
        }
    }

    /// Adds text that should be UTF-8.
    fn add_text(&mut self, key: &[u8], value: &[u8]) {
        self.binary |= std::str::from_utf8(value).is_err();
        self.add(key, value);
    }

    /// The record that goes before all others when one of them is no UTF-8.
    const fn charset(&self) -> &'static [u8] {
        if self.binary { b"21 hdrcharset=BINARY\n" } else { b"" }
    }
}

/// A time in seconds, exact.
fn decimal(time: Time) -> String {
    let total = time.as_nanoseconds();
    let (sign, total) = if total < 0 { ("-", -total) } else { ("", total) };
    let (seconds, nanoseconds) = (total / 1_000_000_000, total % 1_000_000_000);
    let text = format!("{sign}{seconds}.{nanoseconds:09}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// Owner, mode and times, with what does not fit into the header.
fn metadata_into(header: &mut Header, metadata: &Metadata, records: &mut Records) -> io::Result<()> {
    header.set_mode(metadata.mode);
    header.set_uid(metadata.uid.into());
    header.set_gid(metadata.gid.into());
    for (key, id) in [(&b"uid"[..], metadata.uid), (b"gid", metadata.gid)] {
        if id > OCTAL_7_MAX {
            records.add(key, id.to_string().as_bytes());
        }
    }
    let fits = |name: &[u8]| name.len() <= OWNER_BYTES && name.is_ascii();
    match std::str::from_utf8(&metadata.user) {
        Ok(user) if fits(&metadata.user) => header.set_username(user)?,
        _ => records.add_text(b"uname", &metadata.user),
    }
    match std::str::from_utf8(&metadata.group) {
        Ok(group) if fits(&metadata.group) => header.set_groupname(group)?,
        _ => records.add_text(b"gname", &metadata.group),
    }
    let mtime = metadata.mtime;
    let seconds = u64::try_from(mtime.seconds).ok().filter(|seconds| *seconds <= OCTAL_11_MAX);
    header.set_mtime(seconds.unwrap_or(0));
    if seconds.is_none() || mtime.nanoseconds != 0 {
        records.add(b"mtime", decimal(mtime).as_bytes());
    }
    for xattr in &metadata.xattrs {
        // A "=" would end the key too early.
        if !xattr.name.contains(&b'=') {
            records.binary |= std::str::from_utf8(&xattr.name).is_err();
            records.add(&[b"SCHILY.xattr.", xattr.name.as_slice()].concat(), &xattr.value);
        }
    }
    Ok(())
}

impl<W: Finish> Packer for Tar<W> {
    fn begin(&mut self, name: &[u8], entry: &Entry, earlier: Option<&[u8]>) -> io::Result<Begun> {
        let mut header = Header::new_ustar();
        let mut records = Records::default();
        let mut name = name.to_vec();
        let mut link: Option<&[u8]> = earlier;
        let (kind, size) = match &entry.node {
            Node::File(_) if earlier.is_some() => (EntryType::Link, 0),
            Node::File(content) => (EntryType::Regular, content.size),
            Node::Directory { .. } => {
                name.push(b'/');
                (EntryType::Directory, 0)
            }
            Node::Symlink { target } => {
                link = Some(target);
                (EntryType::Symlink, 0)
            }
            Node::Fifo => (EntryType::Fifo, 0),
            Node::CharacterDevice { major, minor } | Node::BlockDevice { major, minor } => {
                // 7 octal digits hold every number that Linux has (12 and 20 bits).
                if *major > OCTAL_7_MAX || *minor > OCTAL_7_MAX {
                    return Ok(Begun::Unfit("is not in the archive: its device number is too large for tar"));
                }
                header.set_device_major(*major)?;
                header.set_device_minor(*minor)?;
                let is_block = matches!(entry.node, Node::BlockDevice { .. });
                (if is_block { EntryType::Block } else { EntryType::Char }, 0)
            }
            Node::Socket => return Ok(Begun::Unfit("is not in the archive: tar holds no sockets")),
        };
        header.set_entry_type(kind);
        metadata_into(&mut header, &entry.metadata, &mut records)?;
        header.set_size(size);
        if size > OCTAL_11_MAX {
            records.add(b"size", size.to_string().as_bytes());
        }
        name_into(&mut header, &name);
        if name.len() > NAME_BYTES || !name.is_ascii() {
            records.add_text(b"path", &name);
        }
        if let Some(link) = link {
            if let Some(ustar) = header.as_ustar_mut() {
                ustar.linkname.iter_mut().zip(link).for_each(|(field, byte)| *field = *byte);
            }
            if link.len() > NAME_BYTES || !link.is_ascii() {
                records.add_text(b"linkpath", link);
            }
        }
        header.set_cksum();
        self.extended(&records)?;
        self.to.write_all(header.as_bytes())?;
        Ok(if kind == EntryType::Regular { Begun::Content } else { Begun::Whole })
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.written += bytes.len() as u64;
        self.to.write_all(bytes)
    }

    fn end(&mut self) -> io::Result<()> {
        self.pad()
    }

    fn finish(mut self: Box<Self>) -> io::Result<()> {
        // Two blocks of zeros end an archive.
        self.to.write_all(&[0; 2 * BLOCK_BYTES])?;
        self.to.finish()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn the_length_of_a_record_counts_itself() {
        for length in (0..1_100).chain([9_980, 9_990, 10_000, 99_990]) {
            let mut records = Records::default();
            records.add(b"path", &vec![b'x'; length]);
            let text = String::from_utf8(records.bytes.clone()).unwrap();
            let (number, _) = text.split_once(' ').unwrap();
            assert_eq!(number.parse::<usize>().unwrap(), records.bytes.len(), "{length}");
        }
        let charset = Records { binary: true, ..Records::default() };
        assert_eq!(charset.charset().len(), 21);
    }

    #[test]
    fn times_are_exact() {
        let time = |seconds, nanoseconds| decimal(Time { seconds, nanoseconds });
        assert_eq!(time(0, 0), "0");
        assert_eq!(time(10, 0), "10");
        assert_eq!(time(1_700_000_000, 120_000_000), "1700000000.12");
        assert_eq!(time(-1, 500_000_000), "-0.5");
        assert_eq!(time(-2, 999_999_999), "-1.000000001");
    }
}
