//! The verbs on keys: put, upsert, get, lookup, match_prefix, remove. Each on a batch of any size, with an answer for
//! each key.

use super::Session;
use super::batch::{Shape, Targets, Work};
use super::connection::Answered;
use super::frame::PutValue;
use super::settle::error_of;
use super::sink::{Delivery, Target};
use crate::error::Error;
use crate::given::{Given, flattened, regrouped};
use crate::lane::View;
use crate::outcome::{Found, PutOutcome, RemoveOutcome};
use bytes::Bytes;
use snowskin_io::{Moment, Platform};
use snowskin_protocol::limits::VALUE_BYTES_MAX;
use snowskin_protocol::wire::Opcode;
use snowskin_protocol::wire::data::ItemStatus;
use snowskin_protocol::{MissReason, ObjectName};
use std::rc::Rc;

impl<P: Platform> Session<P> {
    /// Stores values whose keys are not held.
    pub async fn put(
        self: &Rc<Self>,
        items: Vec<(ObjectName, Bytes)>,
        deadline: Moment,
    ) -> Vec<Result<PutOutcome, Error>> {
        let (names, values): (Vec<_>, Vec<_>) = with_checksums(items);
        self.put_values(false, names, values, deadline).await
    }

    /// Stores values, replacing what is held.
    pub async fn upsert(
        self: &Rc<Self>,
        items: Vec<(ObjectName, Bytes)>,
        deadline: Moment,
    ) -> Vec<Result<PutOutcome, Error>> {
        let (names, values): (Vec<_>, Vec<_>) = with_checksums(items);
        self.put_values(true, names, values, deadline).await
    }

    /// Stores values of any origin, a value for each name.
    pub async fn put_values(
        self: &Rc<Self>,
        replace: bool,
        names: Vec<ObjectName>,
        values: Vec<PutValue>,
        deadline: Moment,
    ) -> Vec<Result<PutOutcome, Error>> {
        assert_eq!(names.len(), values.len(), "a value for each name");
        let refusals: Vec<Option<Error>> = values.iter().map(refusal_of).collect();
        if refusals.iter().all(Option::is_none) {
            return self.put_fit(replace, &names, &values, deadline).await;
        }
        // Ask for those that can be stored, and put the refusals back in between.
        let fit = |index: &usize| refusals[*index].is_none();
        let fit_names: Vec<_> = (0..names.len()).filter(fit).map(|index| names[index].clone()).collect();
        let fit_values: Vec<_> = (0..names.len()).filter(fit).map(|index| values[index].clone()).collect();
        let mut stored = self.put_fit(replace, &fit_names, &fit_values, deadline).await.into_iter();
        let answer = |refusal: Option<Error>| match refusal {
            Some(error) => Err(error),
            None => stored.next().expect("an answer for each item"),
        };
        refusals.into_iter().map(answer).collect()
    }

    async fn put_fit(
        self: &Rc<Self>,
        replace: bool,
        names: &[ObjectName],
        values: &[PutValue],
        deadline: Moment,
    ) -> Vec<Result<PutOutcome, Error>> {
        let opcode = if replace { Opcode::Upsert } else { Opcode::Put };
        let work = Work { opcode, names, values, targets: Targets::Owned, force: false };
        let answer = |answered: Answered| match answered.reply.status {
            ItemStatus::Ok => Ok(PutOutcome::Stored),
            ItemStatus::Exists => Ok(PutOutcome::Existed),
            status => Err(error_of(status)),
        };
        self.carry_out(&work, deadline).await.into_iter().map(|result| result.and_then(answer)).collect()
    }

    /// Reads values.
    pub async fn get(
        self: &Rc<Self>,
        names: Vec<ObjectName>,
        deadline: Moment,
    ) -> Vec<Result<Found<Vec<u8>>, Error>> {
        let hit = |delivery| match delivery {
            Delivery::Value(value) => Ok(value),
            delivery => Err(error_of_delivery(delivery)),
        };
        self.get_to(&names, Targets::Owned, deadline, hit).await
    }

    /// Reads values where they lie, as far as they are on this machine; else copies of them.
    pub async fn view(
        self: &Rc<Self>,
        names: Vec<ObjectName>,
        deadline: Moment,
    ) -> Vec<Result<Found<View>, Error>> {
        let work =
            Work { opcode: Opcode::Get, names: &names, values: &[], targets: Targets::Views, force: false };
        let answer = |Answered { reply, delivery }: Answered| match (reply.status, delivery) {
            (ItemStatus::Ok, Delivery::View(view)) => Ok(Found::Hit(view)),
            (ItemStatus::Ok, Delivery::Value(value)) => Ok(Found::Hit(View::copied(value, reply.checksum))),
            (ItemStatus::Ok, delivery) => Err(error_of_delivery(delivery)),
            (ItemStatus::Miss, _) => Ok(Found::Miss(reply.miss.unwrap_or(MissReason::NotHeld))),
            (status, _) => Err(error_of(status)),
        };
        self.carry_out(&work, deadline).await.into_iter().map(|result| result.and_then(answer)).collect()
    }

    /// Reads values, or ranges of them, into a caller's buffers; a hit says how many bytes the value has. A buffer whose read did
    /// not hit contains rubbish, at most.
    pub(crate) async fn read_into(
        self: &Rc<Self>,
        names: Vec<ObjectName>,
        target: Target,
        shape: Shape,
        deadline: Moment,
    ) -> Vec<Result<Found<usize>, Error>> {
        assert_eq!(names.len(), shape.places.len(), "buffers for each name");
        let written = |delivery| match delivery {
            Delivery::Written(bytes) => Ok(bytes),
            delivery => Err(error_of_delivery(delivery)),
        };
        self.get_to(&names, Targets::Into(target, shape), deadline, written).await
    }

    /// Reads values into buffers, and gives the buffers back, each as long as it was. One whose read did not hit
    /// contains rubbish, at most.
    pub async fn get_into<B: AsMut<[u8]> + 'static>(
        self: &Rc<Self>,
        reads: Vec<(ObjectName, B)>,
        deadline: Moment,
    ) -> Vec<(B, Result<Found<usize>, Error>)> {
        let (names, buffers): (Vec<_>, Vec<_>) = reads.into_iter().unzip();
        let shape = Shape::one_each(names.len());
        let (given, claim) = Given::new(buffers);
        let results = self.read_into(names, Target::Given(given.into_buffers()), shape, deadline).await;
        claim.take().into_iter().zip(results).collect()
    }

    /// Reads values, each into several buffers one behind the other, and gives the buffers back.
    #[allow(clippy::type_complexity, reason = "what was given, with its result")]
    pub async fn get_parts_into<B: AsMut<[u8]> + 'static>(
        self: &Rc<Self>,
        reads: Vec<(ObjectName, Vec<B>)>,
        deadline: Moment,
    ) -> Vec<(Vec<B>, Result<Found<usize>, Error>)> {
        let (names, parts): (Vec<_>, Vec<_>) = reads.into_iter().unzip();
        let (buffers, places) = flattened(parts);
        let (given, claim) = Given::new(buffers);
        let shape = Shape { places: places.clone(), offsets: None };
        let results = self.read_into(names, Target::Given(given.into_buffers()), shape, deadline).await;
        regrouped(claim.take(), &places).into_iter().zip(results).collect()
    }

    /// Reads ranges of values, each from its offset on into its buffer, and gives the buffers back.
    #[allow(clippy::type_complexity, reason = "what was given, with its result")]
    pub async fn get_ranges_into<B: AsMut<[u8]> + 'static>(
        self: &Rc<Self>,
        reads: Vec<(ObjectName, Vec<(u64, B)>)>,
        deadline: Moment,
    ) -> Vec<(Vec<(u64, B)>, Result<Found<usize>, Error>)> {
        let (names, ranges): (Vec<_>, Vec<_>) = reads.into_iter().unzip();
        let (ranges, places) = flattened(ranges);
        let (offsets, buffers): (Vec<u64>, Vec<B>) = ranges.into_iter().unzip();
        let (given, claim) = Given::new(buffers);
        let shape = Shape { places: places.clone(), offsets: Some(offsets.clone().into()) };
        let results = self.read_into(names, Target::Given(given.into_buffers()), shape, deadline).await;
        regrouped(offsets.into_iter().zip(claim.take()), &places).into_iter().zip(results).collect()
    }

    async fn get_to<T>(
        self: &Rc<Self>,
        names: &[ObjectName],
        targets: Targets,
        deadline: Moment,
        hit: impl Fn(Delivery) -> Result<T, Error>,
    ) -> Vec<Result<Found<T>, Error>> {
        let work = Work { opcode: Opcode::Get, names, values: &[], targets, force: false };
        let answer = |answered: Answered| match answered.reply.status {
            ItemStatus::Ok => hit(answered.delivery).map(Found::Hit),
            ItemStatus::Miss => Ok(Found::Miss(reason_of(&answered))),
            status => Err(error_of(status)),
        };
        self.carry_out(&work, deadline).await.into_iter().map(|result| result.and_then(answer)).collect()
    }

    /// Are these keys held, and how long are their values? Grants leases.
    pub async fn lookup(
        self: &Rc<Self>,
        names: Vec<ObjectName>,
        deadline: Moment,
    ) -> Vec<Result<Found<u64>, Error>> {
        self.look_up(Opcode::Lookup, &names, deadline).await
    }

    /// How many leading keys are held? Grants leases on those. An error if a core cannot be asked whose answer
    /// matters.
    pub async fn match_prefix(
        self: &Rc<Self>,
        names: Vec<ObjectName>,
        deadline: Moment,
    ) -> Result<usize, Error> {
        let found = self.look_up(Opcode::MatchPrefix, &names, deadline).await;
        let count = found.len();
        match found.into_iter().enumerate().find(|(_, result)| !matches!(result, Ok(Found::Hit(_)))) {
            None => Ok(count),
            Some((index, Ok(_))) => Ok(index),
            Some((_, Err(error))) => Err(error),
        }
    }

    async fn look_up(
        self: &Rc<Self>,
        opcode: Opcode,
        names: &[ObjectName],
        deadline: Moment,
    ) -> Vec<Result<Found<u64>, Error>> {
        let work = Work { opcode, names, values: &[], targets: Targets::Owned, force: false };
        let answer = |answered: Answered| match answered.reply.status {
            ItemStatus::Ok => Ok(Found::Hit(answered.reply.value_bytes)),
            ItemStatus::Miss => Ok(Found::Miss(reason_of(&answered))),
            status => Err(error_of(status)),
        };
        self.carry_out(&work, deadline).await.into_iter().map(|result| result.and_then(answer)).collect()
    }

    /// Removes keys; with `force` those too that a lease protects.
    pub async fn remove(
        self: &Rc<Self>,
        names: Vec<ObjectName>,
        force: bool,
        deadline: Moment,
    ) -> Vec<Result<RemoveOutcome, Error>> {
        let work =
            Work { opcode: Opcode::Remove, names: &names, values: &[], targets: Targets::Owned, force };
        let answer = |answered: Answered| match answered.reply.status {
            ItemStatus::Ok => Ok(RemoveOutcome::Removed),
            ItemStatus::Leased => Ok(RemoveOutcome::Leased),
            ItemStatus::Miss => Ok(RemoveOutcome::Missing(reason_of(&answered))),
            status => Err(error_of(status)),
        };
        self.carry_out(&work, deadline).await.into_iter().map(|result| result.and_then(answer)).collect()
    }
}

fn with_checksums(items: Vec<(ObjectName, Bytes)>) -> (Vec<ObjectName>, Vec<PutValue>) {
    items.into_iter().map(|(name, value)| (name, PutValue::owned(value))).unzip()
}

fn refusal_of(value: &PutValue) -> Option<Error> {
    match value.bytes() {
        0 => Some(Error::EmptyValue),
        bytes if bytes > VALUE_BYTES_MAX => Some(Error::TooLarge),
        _ => None,
    }
}

fn error_of_delivery(delivery: Delivery) -> Error {
    match delivery {
        Delivery::TooSmall(needed) => Error::BufferTooSmall { needed },
        Delivery::NoSuchRange(error) => error,
        Delivery::Corrupt => Error::Checksum,
        // The buffer was taken back: only the deadline does that while the reply is waited for.
        _ => Error::Deadline,
    }
}

fn reason_of(answered: &Answered) -> MissReason {
    answered.reply.miss.unwrap_or(MissReason::NotHeld)
}
