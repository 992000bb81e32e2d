//! A head, first as it comes, then signed by us, so that what lies behind the signature is reached too. What resolves
//! is canonical: its digest is that of its state, and a successor with the same state reads back as the same state.
#![no_main]

use std::sync::LazyLock;

use ed25519_dalek::{Signer, SigningKey};
use libfuzzer_sys::fuzz_target;
use packstone::base::id::RepositoryId;
use packstone::base::time::Time;
use packstone::codec::chunker::Parameters;
use packstone::codec::config::Config;
use packstone::codec::head::{self, FIXED_BYTES, Head, LiveState, SIGNATURE_BYTES, SIGNATURE_CONTEXT};
use packstone::codec::key_tree::MasterKey;

struct Fixture {
    signing: SigningKey,
    verifying_key: [u8; 32],
    config: [u8; 256],
    repository: RepositoryId,
    /// The head that differences are relative to.
    checkpoint: Head,
    state: LiveState,
}

static FIXTURE: LazyLock<Fixture> = LazyLock::new(|| {
    let signing = MasterKey::new([1; 32]).signing_key();
    let verifying_key = signing.verifying_key().to_bytes();
    let config = Config::new(Parameters::FILES, verifying_key, Time::default()).encode();
    let repository = Config::id(&config);
    let mut state = LiveState::default();
    state.slots.insert([1; 32].into());
    state.segments.insert([2; 32].into(), 1000);
    let bytes = head::successor(&signing, repository, &config, None, None, &state, Time::default()).expect("a head");
    let checkpoint = Head::parse(&bytes, &verifying_key, repository).expect("our own head");
    let state = checkpoint.resolve(None).expect("its state");
    Fixture { signing, verifying_key, config, repository, checkpoint, state }
});

/// The bytes as a head that we signed: repository, signer, lengths and signature are put right, a difference is made
/// relative to our checkpoint, and a seed's config copy becomes ours.
fn signed(data: &[u8]) -> Option<Vec<u8>> {
    let fixture = &*FIXTURE;
    let mut bytes = data.to_vec();
    let body = bytes.len().checked_sub(SIGNATURE_BYTES).filter(|body| *body >= FIXED_BYTES)?;
    let total = u32::try_from(bytes.len()).ok()?;
    bytes[..10].copy_from_slice(b"\x89PKST\r\n\x1a\x01\x07");
    bytes[12..16].copy_from_slice(&total.to_le_bytes());
    bytes[16..48].copy_from_slice(&fixture.repository.0);
    bytes[96..128].copy_from_slice(&fixture.verifying_key);
    if bytes[10] & 1 == 0 {
        bytes[152..160].copy_from_slice(&1_u64.to_le_bytes());
        bytes[160..192].copy_from_slice(&fixture.checkpoint.reference().id.0);
    } else if body >= FIXED_BYTES + 264 && bytes[body - 264..body - 256] == [11, 0, 0, 0, 0, 1, 0, 0] {
        bytes[body - 256..body].copy_from_slice(&fixture.config);
    }
    let message = [SIGNATURE_CONTEXT, &bytes[..body]].concat();
    let signature = fixture.signing.sign(&message).to_bytes();
    bytes[body..].copy_from_slice(&signature);
    Some(bytes)
}

fuzz_target!(|data: &[u8]| {
    let fixture = &*FIXTURE;
    let _ = Head::parse(data, &fixture.verifying_key, fixture.repository);
    let Some(bytes) = signed(data) else { return };
    let Ok(head) = Head::parse(&bytes, &fixture.verifying_key, fixture.repository) else { return };
    let Ok(state) = head.resolve(Some(&fixture.checkpoint)) else { return };
    assert_eq!(state.digest(), *head.digest());
    assert!(state.check(head.generation()).is_ok());
    let checkpoint = if head.is_checkpoint() { (&head, &state) } else { (&fixture.checkpoint, &fixture.state) };
    let next = head::successor(
        &fixture.signing,
        fixture.repository,
        &fixture.config,
        Some((&head, &state)),
        Some(checkpoint),
        &state,
        Time::default(),
    );
    let Ok(next) = next else { return };
    let next = Head::parse(&next, &fixture.verifying_key, fixture.repository).expect("our own head");
    head::check_succession(&head, &next).expect("it follows");
    let again = next.resolve(Some(checkpoint.0)).expect("it resolves");
    assert_eq!(LiveState { ancestors: Vec::new(), ..again }, LiveState { ancestors: Vec::new(), ..state });
});
