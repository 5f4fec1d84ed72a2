//! The edge to the interpreter: what PyO3 has no safe words for under the stable API of Python 3.9.
//!
//! | module | what it does |
//! |---|---|
//! | [`text`] | the bytes of keys where they lie in `str` and `bytes` |
//! | [`buffer`] | the buffer protocol, as a consumer: memory of `bytes`, numpy, memoryview; and of CPU tensors, which lack it |
//! | [`copies`] | copies by address, done later and elsewhere |
//! | [`fresh`] | `bytes` that are being filled |
//! | [`lists`] | keys and numbers of long lists |
//! | [`memory`] | what a call reads from or writes into, and what keeps it there |
//! | [`named`] | the same in pieces, some for each key |
//! | [`span`] | memory that callers name by address and length |
//! | [`view`] | the buffer protocol, as a producer: a value where it lies, which holds its pin |
//!
//! All `unsafe` of this crate is here, and each use names who keeps its promise. The stable API has had the buffer protocol since
//! Python 3.11 only, but every CPython since 3.9 has the functions and the structure, unchanged.

pub(crate) mod buffer;
pub(crate) mod copies;
pub(crate) mod fresh;
pub(crate) mod lists;
pub(crate) mod memory;
pub(crate) mod named;
pub(crate) mod span;
pub(crate) mod text;
pub(crate) mod view;
