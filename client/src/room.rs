//! Where a caller wants the bytes of a value: in one buffer, in several one behind the other, or ranges of it, each in one of its own.

use crate::error::Error;
use snowskin_io::memory::CopyJob;
use std::ops::Range;

/// Where the bytes of a value go.
pub(crate) trait Room {
    /// Whether its buffers have ranges of the value.
    const HAS_RANGES: bool = false;

    /// The copy that brings a value there, or why it cannot be made.
    fn job<'j>(&'j mut self, value: &'j [u8]) -> Result<CopyJob<'j>, Error>;

    /// Adds its buffers, and the offset of each if they have ranges.
    fn lend<'s>(&'s mut self, buffers: &mut Vec<&'s mut [u8]>, offsets: &mut Vec<u64>);
}

/// One buffer.
impl Room for [u8] {
    #[inline]
    fn job<'j>(&'j mut self, value: &'j [u8]) -> Result<CopyJob<'j>, Error> {
        let needed = value.len() as u64;
        let room = self.get_mut(..value.len()).ok_or(Error::BufferTooSmall { needed })?;
        Ok(CopyJob::new(room, value))
    }

    fn lend<'s>(&'s mut self, buffers: &mut Vec<&'s mut [u8]>, _offsets: &mut Vec<u64>) {
        buffers.push(self);
    }
}

/// Several, one behind the other.
impl Room for [&mut [u8]] {
    fn job<'j>(&'j mut self, value: &'j [u8]) -> Result<CopyJob<'j>, Error> {
        let room: usize = self.iter().map(|piece| piece.len()).sum();
        if room < value.len() {
            return Err(Error::BufferTooSmall { needed: value.len() as u64 });
        }
        Ok(CopyJob::scattered(self.iter_mut().map(|piece| &mut **piece), value))
    }

    fn lend<'s>(&'s mut self, buffers: &mut Vec<&'s mut [u8]>, _offsets: &mut Vec<u64>) {
        buffers.extend(self.iter_mut().map(|piece| &mut **piece));
    }
}

/// Ranges: with the offset of each.
impl Room for [(u64, &mut [u8])] {
    const HAS_RANGES: bool = true;

    fn job<'j>(&'j mut self, value: &'j [u8]) -> Result<CopyJob<'j>, Error> {
        job_of_ranges(self.iter_mut().map(|(offset, to)| (*offset, &mut **to)), value)
    }

    fn lend<'s>(&'s mut self, buffers: &mut Vec<&'s mut [u8]>, offsets: &mut Vec<u64>) {
        for (offset, to) in self {
            offsets.push(*offset);
            buffers.push(to);
        }
    }
}

/// The copy that brings ranges of a value to their buffers, or which of them it has not got.
pub(crate) fn job_of_ranges<'j>(
    ranges: impl Iterator<Item = (u64, &'j mut [u8])>,
    value: &'j [u8],
) -> Result<CopyJob<'j>, Error> {
    let part = |(offset, to): (u64, &'j mut [u8])| Ok((range_of(offset, to.len(), value.len())?.start, to));
    let parts: Vec<_> = ranges.map(part).collect::<Result<_, Error>>()?;
    Ok(CopyJob::ranges(parts, value))
}

/// So many bytes from an offset on, of a value of so many; an error if it has not got them.
pub(crate) fn range_of(offset: u64, bytes: usize, value_bytes: usize) -> Result<Range<usize>, Error> {
    let start = usize::try_from(offset).ok().filter(|start| *start <= value_bytes);
    match start {
        Some(start) if bytes <= value_bytes - start => Ok(start..start + bytes),
        _ => {
            let (bytes, value_bytes) = (bytes as u64, value_bytes as u64);
            Err(Error::RangeBeyondEnd { offset, bytes, value_bytes })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_end_with_the_value() {
        assert_eq!(range_of(0, 5, 5), Ok(0..5));
        assert_eq!(range_of(5, 0, 5), Ok(5..5));
        assert_eq!(range_of(4, 1, 5), Ok(4..5));
        for (offset, bytes) in
            [(0, 6), (5, 1), (6, 0), (u64::MAX, 0), (1, usize::MAX), (u64::MAX, usize::MAX)]
        {
            let bytes_told = bytes as u64;
            let error = Error::RangeBeyondEnd { offset, bytes: bytes_told, value_bytes: 5 };
            assert_eq!(range_of(offset, bytes, 5), Err(error));
        }
    }
}
