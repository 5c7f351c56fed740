//! Strings and binary data (1.5.4, 1.5.6).
