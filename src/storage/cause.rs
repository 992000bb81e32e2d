//! Why a store did not do what it was asked, as far as it can be told; and at which mirror.
//!
//! [`super::ErrorKind`] decides how a program goes on. This decides what a person can do about it: which key, which option, whose clock.

use std::sync::Arc;

use super::address::{Address, Service};

/// See the module. The order is the one in which a table of sentences shows them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Cause {
    /// There is no such bucket or container.
    NoPlace,
    /// The bucket is in another region, or is signed for in another one.
    Region,
    /// There is nothing to sign with.
    NoCredentials,
    /// The store does not know the key id, the account or the user.
    KeyUnknown,
    /// The secret does not belong to the key id or the user.
    SecretWrong,
    /// Key id and secret, user and password, or a token are not accepted; it is not said which.
    LoginRefused,
    /// What was lent for a time is over.
    Expired,
    /// The time of this machine is too far from the store's.
    Clock,
    /// The certificate of the server was not issued by anybody whom this system trusts.
    Certificate,
    /// It is one of another host.
    CertificateName,
    /// It is not valid now.
    CertificateTime,
    /// The other side speaks no TLS, or nothing else.
    Tls,
    /// There is no host of this name.
    HostUnknown,
    /// Nobody listens there.
    ConnectionRefused,
    /// No way leads there.
    NoNetwork,
    /// Nothing came, or nothing more.
    Silent,
    /// It asks to be left alone for a while.
    Busy,
    /// The credentials are right, and do not allow it.
    NoRight,
    /// The server's key is in no list of known hosts.
    HostKeyUnknown,
    /// The server's key is another one than the known one.
    HostKeyChanged,
    /// The server takes none of the keys that it was offered.
    KeyRefused,
    /// The key file is not there, or cannot be read.
    KeyFile,
    /// The key file is protected by a passphrase, and nobody can be asked.
    KeyLocked,
    /// There is no room, or the account's share is used up.
    Full,
    /// What answered is no such store.
    NoStore,
    /// A proxy wants to know who asks.
    Proxy,
    /// The options are not understood, or do not go together.
    Settings,
    /// AWS STS does not lend the role to whoever asks.
    RoleRefused,
    /// AWS STS does not accept the identity token.
    RoleToken,
    /// The file with the identity token cannot be read.
    RoleTokenFile,
    /// AWS STS cannot be asked, or what it sent is of no use.
    RoleService,
    /// AWS STS did not answer, or not now.
    RoleSilent,
}

impl Cause {
    /// All of them.
    pub const ALL: [Self; 32] = [
        Self::NoPlace,
        Self::Region,
        Self::NoCredentials,
        Self::KeyUnknown,
        Self::SecretWrong,
        Self::LoginRefused,
        Self::Expired,
        Self::Clock,
        Self::Certificate,
        Self::CertificateName,
        Self::CertificateTime,
        Self::Tls,
        Self::HostUnknown,
        Self::ConnectionRefused,
        Self::NoNetwork,
        Self::Silent,
        Self::Busy,
        Self::NoRight,
        Self::HostKeyUnknown,
        Self::HostKeyChanged,
        Self::KeyRefused,
        Self::KeyFile,
        Self::KeyLocked,
        Self::Full,
        Self::NoStore,
        Self::Proxy,
        Self::Settings,
        Self::RoleRefused,
        Self::RoleToken,
        Self::RoleTokenFile,
        Self::RoleService,
        Self::RoleSilent,
    ];

    /// True when the same request may succeed later, without anybody doing anything.
    #[must_use]
    pub const fn may_pass(self) -> bool {
        matches!(self, Self::ConnectionRefused | Self::NoNetwork | Self::Silent | Self::Busy | Self::RoleSilent)
    }
}

/// What is behind a failure of several objects: that of the first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Behind {
    /// What it is.
    pub cause: Cause,
    /// What was tried: see [`super::Error::operation`].
    pub operation: &'static str,
    /// Where.
    pub mirror: Option<Arc<MirrorPlace>>,
}

/// The mirror at which something failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MirrorPlace {
    /// What it is called, where it is on a list.
    pub name: Option<String>,
    /// Where it lies.
    pub address: Address,
    /// It is on the list, and so are its options.
    pub is_listed: bool,
}

impl MirrorPlace {
    /// Its service.
    #[must_use]
    pub const fn service(&self) -> &'static Service {
        self.address.service()
    }
}

/// What a store does with an object that was removed, where it says so.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Keeping {
    /// Earlier versions of objects stay, and removed ones with them.
    pub versions: bool,
    /// Nothing may be removed before a time: the mode, and how many days by default; none when only single objects have one.
    pub lock: Option<Lock>,
}

/// A lock over all objects of a bucket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lock {
    /// Not even the owner of the account may remove them ("compliance").
    pub for_everybody: bool,
    /// So many days each object stays from when it was stored; none without a default.
    pub days: Option<u64>,
}
