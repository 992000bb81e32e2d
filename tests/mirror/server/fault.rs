//! What goes wrong with a request, and with which.

/// What goes wrong with one request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// "500 InternalError"; nothing is done.
    Error,
    /// "503 SlowDown"; nothing is done.
    SlowDown,
    /// "412 PreconditionFailed"; nothing is done. We never send a condition: a proxy, or a store with ideas of its own.
    Precondition,
    /// "403 RequestTimeTooSkewed", with a time of an hour ago.
    Skew,
    /// No answer, ever.
    Silence,
    /// The connection is reset: when half of an object has arrived, or half of the answer has left.
    Reset,
    /// Half of the answer under the length of the whole, and the end of the connection. What was asked for is done.
    Short,
    /// One bit of an object differs, as it is stored or as it is read; a length is wrong.
    Wrong,
    /// An object is stored, says the answer, and is not; what is asked for is not there; a listing is empty.
    Lost,
    /// What the last write changed is not seen yet.
    Stale,
    /// A listing begins again.
    Repeated,
    /// "501 NotImplemented"; nothing is done. Not among [`FAULTS`]: no store does without what a sync needs.
    Unknown,
    /// Somebody aborts the upload whose part comes.
    Aborted,
    /// The network wants a login first: 200, and a page.
    Portal,
    /// "403 AccessDenied"; nothing is done.
    Denied,
    /// "404 NoSuchBucket".
    NoBucket,
}

pub const FAULTS: [Fault; 11] = [
    Fault::Error,
    Fault::SlowDown,
    Fault::Precondition,
    Fault::Skew,
    Fault::Silence,
    Fault::Reset,
    Fault::Short,
    Fault::Wrong,
    Fault::Lost,
    Fault::Stale,
    Fault::Repeated,
];

/// What is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Put,
    Get,
    Head,
    List,
    /// An upload in parts.
    Begin,
    /// Its parts are put together.
    Complete,
    /// It is thrown away.
    Abort,
    /// Those that are not finished are listed.
    Uploads,
    /// Nothing of what a sync or a recover has any business with.
    Other,
}

impl Fault {
    /// False where this fault is nothing: the request would be answered as it should be.
    pub fn befalls(self, kind: Kind) -> bool {
        match self {
            Self::Stale => matches!(kind, Kind::List | Kind::Get | Kind::Head),
            Self::Repeated => kind == Kind::List,
            _ => true,
        }
    }
}

/// Which requests a fault befalls.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Script {
    /// None.
    Well,
    /// The one with this number, from 0.
    At(u64, Fault),
    /// That and all later ones.
    From(u64, Fault),
    /// Every write of an object whose name begins so.
    Writes(&'static str, Fault),
    /// Every part with this number, from 1.
    Part(u32, Fault),
    /// Every request of this kind.
    Each(Kind, Fault),
}

impl Script {
    /// What befalls the request with this number.
    pub fn fault(self, number: u64, kind: Kind, name: &str, part: Option<u32>) -> Option<Fault> {
        match self {
            Self::At(at, fault) if number == at => Some(fault),
            Self::From(at, fault) if number >= at => Some(fault),
            Self::Writes(begin, fault) if kind == Kind::Put && name.starts_with(begin) => Some(fault),
            Self::Part(at, fault) if part == Some(at) => Some(fault),
            Self::Each(each, fault) if kind == each => Some(fault),
            _ => None,
        }
        .filter(|fault| fault.befalls(kind))
    }
}
