//! Why a stored structure was refused: one variant a reason, because the vectors expect exactly one.

use std::fmt;

/// A stored structure that was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{structure}: {reason}")]
pub struct Error {
    /// What was being read: "config", "pack", "sealed unit", ...
    pub structure: &'static str,
    /// The first check that failed.
    pub reason: Reason,
}

impl Error {
    /// `structure` was refused because of `reason`.
    #[must_use]
    pub const fn new(structure: &'static str, reason: Reason) -> Self {
        Self { structure, reason }
    }
}

impl Reason {
    /// True when the object may be sound and this program too old for it: never to be called damaged, and never to be
    /// skipped.
    #[must_use]
    pub const fn needs_newer_program(&self) -> bool {
        matches!(
            self,
            Self::UnknownVersion { .. }
                | Self::UnknownSuite { .. }
                | Self::UnknownKeyMode { .. }
                | Self::UnknownCodec { .. }
                | Self::UnknownFeature { .. }
                | Self::UnknownSection { .. }
                | Self::UnknownChunker { .. }
                | Self::UnknownSecret { .. }
        )
    }
}

macro_rules! reasons {
    ($($(#[$doc:meta])* $name:ident $({ $($field:ident : $type:ty),* })? = $slug:literal, $text:literal;)*) => {
        /// The check that failed.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum Reason {
            $($(#[$doc])* $name $({
                $(#[allow(missing_docs)] $field: $type),*
            })?,)*
        }

        impl Reason {
            /// The reason's name in the vectors: lower case with hyphens.
            #[must_use]
            pub const fn slug(&self) -> &'static str {
                match self {
                    $(Self::$name $({ $($field: _),* })? => $slug,)*
                }
            }
        }

        impl fmt::Display for Reason {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                match self {
                    $(Self::$name $({ $($field),* })? => write!(f, $text),)*
                }
            }
        }
    };
}

reasons! {
    /// A structure of fixed length has another length.
    WrongLength { expected: u64, found: u64 } = "wrong-length", "{expected} bytes expected, {found} found";
    /// The bytes end before the structure does.
    Truncated = "truncated", "ends too early";
    /// Bytes follow the end of the structure.
    TrailingBytes = "trailing-bytes", "bytes follow its end";
    /// The magic is not ours.
    WrongMagic = "wrong-magic", "does not begin with this structure's magic";
    /// A version this program does not know.
    UnknownVersion { version: u8 } = "unknown-version", "version {version} needs a newer packstone";
    /// The kind byte names another structure.
    WrongKind { expected: u8, found: u8 } = "wrong-kind", "kind {expected} expected, {found} found";
    /// A cryptographic suite this program does not know.
    UnknownSuite { suite: u8 } = "unknown-suite", "cryptographic suite {suite} needs a newer packstone";
    /// A key mode this program does not know.
    UnknownKeyMode { mode: u8 } = "unknown-key-mode", "key mode {mode} needs a newer packstone";
    /// A codec this program does not know.
    UnknownCodec { codec: u8 } = "unknown-codec", "codec {codec} needs a newer packstone";
    /// Feature bits that forbid this program to go on.
    UnknownFeature { bits: u64 } = "unknown-feature", "feature bits {bits:#x} need a newer packstone";
    /// A reserved byte is not zero.
    NonzeroReserved = "nonzero-reserved", "a reserved byte is not zero";
    /// The structure belongs to another repository.
    OtherRepository = "other-repository", "belongs to another repository";
    /// A section of a head that this program does not know and may not skip.
    UnknownSection { section: u16 } = "unknown-section", "section {section} needs a newer packstone";
    /// A section stands where it may not: twice, out of order, empty, or in the wrong sort of head.
    MisplacedSection { section: u16 } = "misplaced-section", "section {section} is empty or out of place";
    /// A section that must be there is not.
    MissingSection { section: u16 } = "missing-section", "section {section} is missing";
    /// A chunker this program does not know.
    UnknownChunker { chunker: u32 } = "unknown-chunker", "chunker {chunker} needs a newer packstone";
    /// A type of secret, or a payload, this program does not know.
    UnknownSecret { secret: u8 } = "unknown-secret", "secret type {secret} needs a newer packstone";
    /// The slot opens with another type of secret.
    OtherSecret = "other-secret", "opens with another type of secret";
    /// A passphrase of no bytes.
    EmptyPassphrase = "empty-passphrase", "an empty passphrase protects nothing; choose a longer one";
    /// The system gave no memory for stretching a secret.
    OutOfMemory = "out-of-memory", "not enough memory to stretch the secret; free some, or use a machine with more";
    /// A typed code or key file with a typing error.
    WrongCheck = "wrong-check", "its check does not match: something was mistyped or damaged";
    /// A typed code has a character that is no symbol.
    NoSymbol { position: u64 } = "no-symbol", "symbol {position} is none of 0-9 and A-Z without U";
    /// A list is not strictly ascending.
    NotAscending { list: &'static str } = "not-ascending", "its list of {list} is not strictly ascending";
    /// Another key signed it.
    OtherSigner = "other-signer", "is signed by another key than the repository's";
    /// The signature does not verify.
    Signature = "signature", "its signature does not verify";
    /// The head does not follow the one it should follow.
    WrongPrevious = "wrong-previous", "does not follow the head before it";
    /// The head names another checkpoint than it may, or than the one at hand.
    WrongCheckpoint = "wrong-checkpoint", "needs another checkpoint";
    /// Feature bits were taken back.
    ShrunkFeatures = "shrunk-features", "takes back features that are in use";
    /// No key slot is live, so nobody could ever open the repository again.
    NoSlots = "no-slots", "names no key slot";
    /// An addition of what is there already.
    AlreadyListed { list: &'static str } = "already-listed", "adds to its {list} what is there already";
    /// A removal of what is not there.
    NotListed { list: &'static str } = "not-listed", "removes from its {list} what is not there";
    /// A mark or a sweep of what is live.
    LiveMarked = "live-marked", "marks or sweeps what is live";
    /// A swept name became live or marked again, or something live was swept without having been marked.
    WrongTransition = "wrong-transition", "breaks the order live, marked, swept";
    /// The live state has another digest than recorded.
    WrongDigest = "wrong-digest", "its live state has another digest than recorded";
    /// The earlier heads it lists are not those it follows.
    WrongAncestors = "wrong-ancestors", "lists other earlier heads than it follows";
    /// A number is outside its range.
    OutOfRange { field: &'static str } = "out-of-range", "{field} is out of range";
    /// The commitment differs: wrong key, or a changed context.
    Commitment = "commitment", "does not open: commitment differs";
    /// The ciphertext or tag was changed.
    Tag = "tag", "does not open: authentication tag differs";
    /// The stored bytes hash to another id than the name says.
    ObjectId = "object-id", "its bytes have another hash than its name says";
    /// A chunk hashes to another id.
    ChunkId = "chunk-id", "a chunk has another id than recorded";
    /// The body does not decode.
    Undecodable = "undecodable", "its body does not decode";
    /// The body holds a variant (a type of file, a codec, an outcome) that this program does not know.
    UnknownVariant { variant: u32 } = "unknown-variant", "its body holds variant {variant}: a newer packstone is needed";
    /// A path, name or list breaks a rule of its structure.
    BrokenRule { rule: &'static str } = "broken-rule", "{rule}";
    /// The body does not encode to the same bytes again.
    NotCanonical = "not-canonical", "its body is not in canonical form";
    /// The compressed content is damaged, too long, or uses a window over the limit.
    Decompression = "decompression", "its content does not decompress";
    /// The content has another length than the authenticated one.
    PlainLength = "plain-length", "its content has another length than recorded";
}
