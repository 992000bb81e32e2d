//! A config that is read encodes to the same bytes.
#![no_main]

use libfuzzer_sys::fuzz_target;
use packstone::codec::config::Config;

fuzz_target!(|data: &[u8]| {
    if let Ok(config) = Config::parse(data) {
        assert_eq!(config.encode(), *data);
        assert!(config.files.is_valid());
        assert!(config.features.check_read().is_ok());
    }
});
