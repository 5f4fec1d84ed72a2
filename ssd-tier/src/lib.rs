//! ssd-tier
