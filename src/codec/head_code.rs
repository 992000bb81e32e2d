//! head_code
