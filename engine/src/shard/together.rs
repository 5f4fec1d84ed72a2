//! Items of a batch, some at a time: so few that what is fetched for all of them is still in the cache when the last one's
//! turn comes, and so many that memory works on all of them at once.

use snowskin_protocol::HashedName;
use snowskin_protocol::wire::data::{Batch, KeyItem};
use std::ops::ControlFlow;

/// Items whose rows are fetched from memory together.
pub const TOGETHER: usize = 32;

/// Calls `answer` with the items of a batch and the hashes of their names, up to [`TOGETHER`] at a time, until it breaks.
#[inline]
pub fn some_at_a_time<'a>(
    batch: &Batch<'a, KeyItem>,
    mut answer: impl FnMut(&[(KeyItem, HashedName<'a>)]) -> ControlFlow<()>,
) {
    let mut items = batch.iter();
    if batch.len() == 1 {
        // The usual batch needs no heap.
        let _: Option<ControlFlow<()>> = items.next().map(|(item, name)| answer(&[(item, name.hashed())]));
        return;
    }
    let mut asked = Vec::with_capacity(batch.len().min(TOGETHER));
    loop {
        asked.clear();
        asked.extend(items.by_ref().take(TOGETHER).map(|(item, name)| (item, name.hashed())));
        if asked.is_empty() || answer(&asked).is_break() {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use quickcheck::quickcheck;
    use snowskin_protocol::ObjectName;
    use snowskin_protocol::wire::data::BatchWriter;

    quickcheck! {
        fn every_item_comes_once_and_in_order(count: u8, until: u8) -> bool {
            let names: Vec<ObjectName> =
                (0..count).map(|number| ObjectName::new("t", &[number, b'k'][usize::from(number == 0)..]).unwrap()).collect();
            let mut writer = BatchWriter::default();
            names.iter().for_each(|name| writer.push(KeyItem::at_home(name.as_ref()), name.as_ref()));
            let body = writer.finish();
            let batch = Batch::<KeyItem>::decode(count.into(), &body).unwrap();
            let mut come = Vec::new();
            some_at_a_time(&batch, |asked| {
                assert!((1..=TOGETHER).contains(&asked.len()));
                assert!(asked.iter().all(|(_, name)| name.hash == name.name.hash()));
                come.extend(asked.iter().map(|(_, name)| name.name.to_owned()));
                if come.len() > usize::from(until) { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
            });
            let enough = (usize::from(until) + 1).next_multiple_of(TOGETHER).min(names.len());
            come == names[..enough]
        }
    }
}
