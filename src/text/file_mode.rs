//! File types and permissions, shown as `ls` does, and for programs as restic (that is, Go) writes them.

const TYPE: u32 = 0o170_000;
const DIRECTORY: u32 = 0o040_000;
const SYMLINK: u32 = 0o120_000;
const BLOCK: u32 = 0o060_000;
const CHARACTER: u32 = 0o020_000;
const FIFO: u32 = 0o010_000;
const SOCKET: u32 = 0o140_000;
const FILE: u32 = 0o100_000;
const SET_USER: u32 = 0o4000;
const SET_GROUP: u32 = 0o2000;
const STICKY: u32 = 0o1000;

/// restic's word for the type in an `st_mode`.
#[must_use]
pub const fn type_name(st_mode: u32) -> &'static str {
    match st_mode & TYPE {
        DIRECTORY => "dir",
        SYMLINK => "symlink",
        BLOCK => "dev",
        CHARACTER => "chardev",
        FIFO => "fifo",
        SOCKET => "socket",
        FILE => "file",
        _ => "irregular",
    }
}

/// Type and permissions as `ls -l` shows them: "drwxr-xr-x", "-rwsr-xr-x".
#[must_use]
pub fn show(st_mode: u32) -> String {
    let kind = match st_mode & TYPE {
        DIRECTORY => 'd',
        SYMLINK => 'l',
        BLOCK => 'b',
        CHARACTER => 'c',
        FIFO => 'p',
        SOCKET => 's',
        FILE => '-',
        _ => '?',
    };
    let mut text = String::with_capacity(10);
    text.push(kind);
    for (shift, special, letter) in [(6, SET_USER, 's'), (3, SET_GROUP, 's'), (0, STICKY, 't')] {
        let bits = st_mode >> shift;
        text.push(if bits & 4 != 0 { 'r' } else { '-' });
        text.push(if bits & 2 != 0 { 'w' } else { '-' });
        text.push(match (bits & 1 != 0, st_mode & special != 0) {
            (true, true) => letter,
            (false, true) => letter.to_ascii_uppercase(),
            (true, false) => 'x',
            (false, false) => '-',
        });
    }
    text
}

/// The bits of Go's `io/fs.FileMode`, which restic writes as `mode`.
#[must_use]
pub const fn go_mode(st_mode: u32) -> u32 {
    let kind = match st_mode & TYPE {
        DIRECTORY => 1 << 31,
        SYMLINK => 1 << 27,
        BLOCK => 1 << 26,
        CHARACTER => 1 << 26 | 1 << 21,
        FIFO => 1 << 25,
        SOCKET => 1 << 24,
        FILE => 0,
        _ => 1 << 19,
    };
    let mut mode = kind | st_mode & 0o777;
    if st_mode & SET_USER != 0 {
        mode |= 1 << 23;
    }
    if st_mode & SET_GROUP != 0 {
        mode |= 1 << 22;
    }
    if st_mode & STICKY != 0 {
        mode |= 1 << 20;
    }
    mode
}

/// Go's text of a `FileMode`, which restic writes as `permissions`: a letter for each high bit that is set (or `-`), then
/// nine for the permissions. Source: Go, `io/fs/fs.go`, `FileMode.String`.
#[must_use]
pub fn go_permissions(st_mode: u32) -> String {
    let mode = go_mode(st_mode);
    let mut text: String =
        "dalTLDpSugct?".chars().zip(0..).filter(|(_, index)| mode & 1 << (31 - index) != 0).map(|(c, _)| c).collect();
    if text.is_empty() {
        text.push('-');
    }
    text.extend("rwxrwxrwx".chars().zip(0..).map(|(c, index)| if mode & 1 << (8 - index) != 0 { c } else { '-' }));
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modes_are_shown_in_both_ways() {
        for (st_mode, name, ls, go, bits) in [
            (0o100_644, "file", "-rw-r--r--", "-rw-r--r--", 0o644),
            (0o104_755, "file", "-rwsr-xr-x", "urwxr-xr-x", 1 << 23 | 0o755),
            (0o102_644, "file", "-rw-r-Sr--", "grw-r--r--", 1 << 22 | 0o644),
            (0o041_777, "dir", "drwxrwxrwt", "dtrwxrwxrwx", 1 << 31 | 1 << 20 | 0o777),
            (0o120_777, "symlink", "lrwxrwxrwx", "Lrwxrwxrwx", 1 << 27 | 0o777),
            (0o020_600, "chardev", "crw-------", "Dcrw-------", 1 << 26 | 1 << 21 | 0o600),
            (0o060_600, "dev", "brw-------", "Drw-------", 1 << 26 | 0o600),
            (0o010_600, "fifo", "prw-------", "prw-------", 1 << 25 | 0o600),
            (0o140_600, "socket", "srw-------", "Srw-------", 1 << 24 | 0o600),
            (0o600, "irregular", "?rw-------", "?rw-------", 1 << 19 | 0o600),
        ] {
            assert_eq!(type_name(st_mode), name);
            assert_eq!(show(st_mode), ls);
            assert_eq!(go_permissions(st_mode), go);
            assert_eq!(go_mode(st_mode), bits);
        }
    }
}
