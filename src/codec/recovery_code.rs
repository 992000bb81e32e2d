//! recovery_code
