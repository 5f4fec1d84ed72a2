//! Bytes: who may touch which, and until when.
//!
//! * [`Span`]: a range of a segment's memory. Every byte of a segment belongs to exactly one span, so a span may be
//!   written without asking anybody. Allocators split spans and join them again; nothing else makes them.
//! * [`Loan`], [`LoanMut`]: a caller's buffer, lent to tasks of the client for the length of one call. When the call
//!   returns, for whatever reason, the buffer is the caller's again and no task can reach it any more.

mod loan;
mod span;

pub use loan::{Loan, LoanMut, lend, lend_mut};
pub use span::{Span, SpanError};
