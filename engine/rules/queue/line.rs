//! A line: the runs that need the same slots, in the order in which they go.

use std::cmp::{Ordering, Reverse};
use std::collections::BinaryHeap;

use crate::base::RunId;
use crate::base::id::IdSet;
use crate::base::looks::looked;

use super::SlotAt;

/// Where a run stands in line: lower goes first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Order {
    /// Whether the run has not begun before: those that have go first.
    pub fresh: bool,
    /// When it entered the queue, less its head start, in milliseconds.
    pub enter_ms: i64,
    /// Its id: the order of acceptance.
    pub run: RunId,
}

impl Ord for Order {
    fn cmp(&self, other: &Order) -> Ordering {
        looked(1);
        self.fresh.cmp(&other.fresh).then_with(|| self.enter_ms.cmp(&other.enter_ms)).then_with(|| self.run.cmp(&other.run))
    }
}

impl PartialOrd for Order {
    fn partial_cmp(&self, other: &Order) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// See the module's head.
///
/// A run that leaves from the middle keeps its place in the heap until it comes to the head, or until more than half of all have left: so
/// it costs no walk along the line. The head itself is always one that stands there.
#[derive(Debug)]
pub(super) struct Line {
    pub(super) slots: Box<[SlotAt]>,
    places: BinaryHeap<Reverse<Order>>,
    /// Those who have a place and stand here no more; none where there are none, as in almost every line. In a box, since there may be a
    /// line for each run.
    #[allow(clippy::box_collection, reason = "the set would make each of the many lines without one larger")]
    gone: Option<Box<IdSet>>,
    /// Where the line is filed: in the ready set or at a slot, under this order.
    pub(super) filed: Option<(Order, Option<SlotAt>)>,
}

impl Line {
    pub(super) fn new(slots: Box<[SlotAt]>) -> Line {
        Line { slots, places: BinaryHeap::new(), gone: None, filed: None }
    }

    /// Runs that stand here.
    pub(super) fn len(&self) -> usize {
        self.places.len() - self.gone.as_ref().map_or(0, |gone| gone.len())
    }

    pub(super) fn head(&self) -> Option<Order> {
        self.places.peek().map(|Reverse(order)| *order)
    }

    /// Those that stand here, in no order.
    pub(super) fn orders(&self) -> impl Iterator<Item = Order> + '_ {
        looked(self.places.len());
        let gone = self.gone.as_deref();
        let stands = move |order: &Order| gone.is_none_or(|gone| !gone.contains(&order.run));
        self.places.iter().map(|Reverse(order)| *order).filter(stands)
    }

    /// A run that does not stand here joins.
    pub(super) fn push(&mut self, order: Order) {
        if self.gone.as_ref().is_some_and(|gone| gone.contains(&order.run)) {
            // It must not be taken for the one that left. Hardly any run comes back to a line before that has moved on.
            self.tidy();
        }
        self.places.push(Reverse(order));
    }

    /// The head goes.
    pub(super) fn pop(&mut self) {
        self.places.pop();
        self.pass_gone();
    }

    /// Those that go next, in order, at most so many; they stay.
    pub(super) fn next(&mut self, most: usize) -> Vec<Order> {
        let mut next = Vec::new();
        while next.len() < most
            && let Some(head) = self.head()
        {
            next.push(head);
            self.pop();
        }
        self.places.extend(next.iter().copied().map(Reverse));
        next
    }

    /// A run that stands here leaves.
    pub(super) fn leave(&mut self, run: RunId) {
        let gone = self.gone.get_or_insert_default();
        gone.insert(run);
        if gone.len() * 2 > self.places.len() {
            self.tidy();
        } else {
            self.pass_gone();
        }
    }

    /// Those leave for whom `which` holds. It looks at all, and moves nothing where they all stay.
    pub(super) fn take_out(&mut self, which: impl Fn(&Order) -> bool) -> Vec<Order> {
        if !self.orders().any(|order| which(&order)) {
            return Vec::new();
        }
        self.tidy();
        looked(self.places.len());
        let (gone, left): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.places).into_vec().into_iter().partition(|Reverse(order)| which(order));
        self.places = left.into();
        gone.into_iter().map(|Reverse(order)| order).collect()
    }

    /// Has one at the head that stands here.
    fn pass_gone(&mut self) {
        while let Some(gone) = &mut self.gone
            && let Some(Reverse(head)) = self.places.peek()
            && gone.remove(&head.run)
        {
            self.places.pop();
        }
        if self.gone.as_ref().is_some_and(|gone| gone.is_empty()) {
            self.gone = None;
        }
    }

    /// Drops the places of all who have left.
    fn tidy(&mut self) {
        if let Some(gone) = self.gone.take() {
            looked(self.places.len());
            self.places.retain(|Reverse(order)| !gone.contains(&order.run));
        }
    }
}
