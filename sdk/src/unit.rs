//! One call of the plugin: a batch, its answers so far, and its effects.

use crate::{
    bindings::saga::plugin::types::Failure, context::Context, db::Db, effects::Effects, input::Input,
    saga::live::LiveSaga,
};

/// A batch of deliveries or requests (`S`) that is being answered (`A`).
pub(crate) struct Unit<'a, S, A> {
    batch: &'a [S],
    answers: Vec<Option<A>>,
    pub(crate) sagas: Vec<LiveSaga>,
    pub(crate) effects: Effects<'a>,
}

impl<'a, S, A> Unit<'a, S, A> {
    pub(crate) fn new(context: &'a Context<'a>, batch: &'a [S], sagas: Vec<LiveSaga>) -> Self {
        let answers = batch.iter().map(|_| None).collect();
        Self { batch, answers, sagas, effects: Effects::new(context) }
    }

    pub(crate) fn db(&self) -> Db<'a> {
        Db::new(self.effects.context().host())
    }

    /// Names the item that is handled next: it causes the effects from here on.
    pub(crate) fn at(&self, place: u32) {
        self.effects.context().at(place);
    }

    pub(crate) fn item(&self, place: u32) -> Option<&'a S> {
        self.batch.get(usize::try_from(place).ok()?)
    }

    /// Decodes the item at `place`. One that cannot be decoded is answered at once, and gives none.
    pub(crate) fn decode<I: Input<Source = S, Answer = A>>(&mut self, place: u32) -> Option<I> {
        self.at(place);
        match I::decode(self.item(place)?, self.effects.context()) {
            Ok(input) => Some(input),
            Err(answer) => {
                self.answer(place, answer);
                None
            }
        }
    }

    pub(crate) fn answer(&mut self, place: u32, answer: A) {
        if let Some(slot) = usize::try_from(place).ok().and_then(|place| self.answers.get_mut(place)) {
            *slot = Some(answer);
        }
    }

    /// Sends the effects to the host and returns the answers.
    pub(crate) fn finish(self) -> Result<Vec<A>, Failure> {
        self.effects.flush()?;
        let answers: Option<Vec<A>> = self.answers.into_iter().collect();
        answers.ok_or_else(|| Failure {
            message: "a delivery was not answered".to_owned(),
            culprits: Vec::new(),
        })
    }
}
