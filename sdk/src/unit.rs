//! One call of the plugin: a batch, its answers as they come, and what it asks for.

use crate::{
    bindings::saga::plugin::types::Failure, context::Context, db::Db, effects::Effects, input::Input,
    saga::live::Live,
};

/// A batch of deliveries or requests (`S`) that is being answered (`A`).
pub(crate) struct Unit<'a, S, A> {
    batch: &'a [S],
    answers: Vec<Option<A>>,
    pub(crate) sagas: Vec<Live>,
    pub(crate) effects: Effects<'a>,
}

impl<'a, S, A> Unit<'a, S, A> {
    pub(crate) fn new(context: &'a Context<'a>, batch: &'a [S], sagas: Vec<Live>) -> Self {
        let answers = batch.iter().map(|_| None).collect();
        Self { batch, answers, sagas, effects: Effects::new(context) }
    }

    pub(crate) fn db(&self) -> Db<'a> {
        Db::new(self.effects.context().host())
    }

    /// What is handled next: whose effects the following ones are.
    pub(crate) fn at(&self, place: u32) {
        self.effects.context().at(place);
    }

    pub(crate) fn item(&self, place: u32) -> Option<&'a S> {
        self.batch.get(usize::try_from(place).ok()?)
    }

    /// Decodes what stands at a place; what cannot be decoded is answered.
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

    /// Hands the effects to the host and gives the answers.
    pub(crate) fn finish(self) -> Result<Vec<A>, Failure> {
        self.effects.flush()?;
        let answers: Option<Vec<A>> = self.answers.into_iter().collect();
        answers.ok_or_else(|| Failure {
            message: "a delivery was not answered".to_owned(),
            culprits: Vec::new(),
        })
    }
}
