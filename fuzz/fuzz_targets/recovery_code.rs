//! Codes that people type: what is read prints to something that reads as the same.
#![no_main]

use libfuzzer_sys::fuzz_target;
use packstone::codec::head_code::HeadCode;
use packstone::codec::key_file::KeyFile;
use packstone::codec::recovery_code::RecoveryCode;

fuzz_target!(|data: &[u8]| {
    if let Ok(file) = KeyFile::parse(data) {
        assert!(KeyFile::parse(file.encode().as_bytes()) == Ok(file));
    }
    let Ok(text) = std::str::from_utf8(data) else { return };
    if let Ok(code) = HeadCode::parse(text) {
        assert_eq!(HeadCode::parse(&code.to_string()), Ok(code));
    }
    match RecoveryCode::parse(text) {
        Ok(code) => assert!(RecoveryCode::parse(&code.text()) == Ok(code)),
        Err(error) => assert!(!error.to_string().is_empty()),
    }
    // What nobody would type by chance: the check is put right by making the code from the bytes.
    if let Some(secret) = data.first_chunk::<16>() {
        let code = RecoveryCode::generate(secret);
        assert!(RecoveryCode::parse(&code.text().to_lowercase()) == Ok(code));
    }
});
