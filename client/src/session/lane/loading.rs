//! What is on the SSD of the core: asked for again when it has come.

use super::SessionLane;
use crate::lane::{BodyWriter, place_of};
use crate::session::LinkError;
use crate::session::connection::Answered;
use crate::session::lane::LaneWork;
use crate::session::sink::Sink;
use snowskin_io::Platform;
use snowskin_protocol::wire::data::ItemStatus;
use snowskin_protocol::wire::lane::LaneOpcode;
use std::rc::Rc;

impl<P: Platform> SessionLane<P> {
    /// Asks again for what is loading, by its place among the items and with its sink, until all of it has an answer. Before it was
    /// asked for there had been so many arrivals.
    pub(super) async fn fetch(
        self: &Rc<Self>,
        work: &LaneWork<'_>,
        mut loading: Vec<(usize, Sink)>,
        mut arrivals: u32,
        answered: &mut [Answered],
    ) -> Result<(), LinkError> {
        let mut body = BodyWriter::default();
        while !loading.is_empty() {
            self.await_arrival(arrivals).await;
            arrivals = self.end.borrow().arrivals();
            let mut asked = std::mem::take(&mut loading).into_iter();
            while asked.len() > 0 {
                let is_next = |(place, _): &(usize, Sink)| body.push(work.items[*place], work.names[*place]);
                let count = asked.as_slice().iter().map(is_next).take_while(|fits| *fits).count();
                let answer = self.ask(LaneOpcode::Get, &mut body).await?.await?;
                self.check_count(LaneOpcode::Get, count, &answer)?;
                for ((place, sink), record) in asked.by_ref().zip(answer.records) {
                    answered[place].reply = record.reply;
                    match place_of(&record) {
                        Some(_) => answered[place].delivery = self.deliver(&record, sink)?,
                        None if record.reply.status == ItemStatus::Loading => loading.push((place, sink)),
                        None => {}
                    }
                }
            }
        }
        Ok(())
    }

    /// Ends when there have been other arrivals than so many, or the lane is over.
    async fn await_arrival(&self, arrivals: u32) {
        let _loading = Loading::new(self);
        self.arrived.until(|| self.is_over() || self.end.borrow().arrivals() != arrivals).await;
    }

    // -- of the pump --

    /// Whether there is a reply, or something to ask for again.
    pub(super) fn has_come(&self) -> bool {
        let end = self.end.borrow();
        end.has_reply() || end.arrivals() != self.arrivals.get()
    }

    /// Tells those whose values are loading, if anything has arrived.
    pub(super) fn hear_arrivals(&self) {
        let arrivals = self.end.borrow().arrivals();
        if self.arrivals.replace(arrivals) != arrivals {
            self.arrived.tell();
        }
    }
}

/// Counts an asker whose values are loading.
struct Loading<'a, P: Platform>(&'a SessionLane<P>);

impl<'a, P: Platform> Loading<'a, P> {
    fn new(lane: &'a SessionLane<P>) -> Self {
        lane.loading.set(lane.loading.get() + 1);
        lane.work.raise();
        Loading(lane)
    }
}

impl<P: Platform> Drop for Loading<'_, P> {
    fn drop(&mut self) {
        self.0.loading.set(self.0.loading.get() - 1);
    }
}
