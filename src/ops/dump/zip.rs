//! zip: for places where tar is not known. Keeps files, directories and symbolic links with their permissions and times to
//! the second; a file with several names is stored under each, and nothing else of what Unix has can be kept.
//! Source: PKWARE APPNOTE 6.3; extended timestamps as Info-ZIP writes them (`extrafld.txt`, 0x5455).

use std::io::{self, Write};
use std::mem::ManuallyDrop;

use ::zip::write::{FullFileOptions, StreamWriter};
use ::zip::{CompressionMethod, DateTime, ZipWriter};
use jiff::Timestamp;
use jiff::tz::TimeZone;

use super::{Begun, Packer};
use crate::base::time::Time;
use crate::codec::tree::{Entry, Node};

/// Header id of the extended timestamp.
const EXTENDED_TIMESTAMP: u16 = 0x5455;
/// From this size on an entry gets the fields of zip64, in bytes: deflate may make it longer, and 4 GiB is the end.
const LARGE_BYTES_MIN: u64 = 3 << 30;

/// A zip on its way.
pub(super) struct Zip<'a> {
    /// Dropping a writer ends its archive properly. One that ended early must not look whole, so it is never dropped.
    to: ManuallyDrop<ZipWriter<StreamWriter<&'a mut dyn Write>>>,
    zone: TimeZone,
}

impl<'a> Zip<'a> {
    pub(super) fn new(to: &'a mut dyn Write) -> Self {
        Self { to: ManuallyDrop::new(ZipWriter::new_stream(to)), zone: TimeZone::system() }
    }

    fn options(&self, entry: &Entry, size: u64) -> io::Result<FullFileOptions<'static, 'static>> {
        let mtime = entry.metadata.mtime;
        let mut options = FullFileOptions::default()
            .compression_method(CompressionMethod::Deflated)
            .unix_permissions(entry.metadata.mode)
            .last_modified_time(local_time(mtime, &self.zone))
            .large_file(size >= LARGE_BYTES_MIN);
        if let Ok(seconds) = i32::try_from(mtime.seconds) {
            let mut field = vec![1];
            field.extend_from_slice(&seconds.to_le_bytes());
            options.add_extra_field(EXTENDED_TIMESTAMP, field, false)?;
        }
        Ok(options)
    }
}

/// Local time in steps of two seconds, from 1980 to 2107; what lies outside becomes the first one.
fn local_time(time: Time, zone: &TimeZone) -> DateTime {
    let convert = || {
        let at = Timestamp::new(time.seconds, 0).ok()?.to_zoned(zone.clone());
        let year = u16::try_from(at.year()).ok()?;
        let [month, day, hour, minute, second] =
            [at.month(), at.day(), at.hour(), at.minute(), at.second()].map(|part| u8::try_from(part).unwrap_or(0));
        DateTime::from_date_and_time(year, month, day, hour, minute, second).ok()
    };
    convert().unwrap_or_default()
}

impl Packer for Zip<'_> {
    fn begin(&mut self, name: &[u8], entry: &Entry, _: Option<&[u8]>) -> io::Result<Begun> {
        const UNFIT: Begun =
            Begun::Unfit("is not in the archive: zip holds files, directories and symbolic links only");
        const NO_TEXT: Begun = Begun::Unfit("is not in the archive: its target is no UTF-8, as zip wants it");
        match &entry.node {
            Node::File(content) => {
                let options = self.options(entry, content.size)?;
                self.to.start_file_with_options(options.name(name))?;
                Ok(Begun::Content)
            }
            Node::Directory { .. } => {
                let options = self.options(entry, 0)?.compression_method(CompressionMethod::Stored);
                let Ok(name) = std::str::from_utf8(name) else { return Ok(NO_TEXT) };
                self.to.add_directory(name, options)?;
                Ok(Begun::Whole)
            }
            Node::Symlink { target } => {
                let options = self.options(entry, 0)?.compression_method(CompressionMethod::Stored);
                let (Ok(name), Ok(target)) = (std::str::from_utf8(name), std::str::from_utf8(target)) else {
                    return Ok(NO_TEXT);
                };
                self.to.add_symlink(name, target, options)?;
                Ok(Begun::Whole)
            }
            _ => Ok(UNFIT),
        }
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.to.write_all(bytes)
    }

    fn end(&mut self) -> io::Result<()> {
        Ok(())
    }

    fn finish(self: Box<Self>) -> io::Result<()> {
        ManuallyDrop::into_inner(self.to).finish()?.into_inner().flush()
    }
}
