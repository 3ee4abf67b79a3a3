//! The rpc that lets time pass.

use saldo_api::v1;
use saldo_auth::Role;
use saldo_domain::command::Command;

use super::{Fields, Rpc, TIMEKEEPERS};

impl Rpc for v1::AdvanceTimeRequest {
    const ROLES: &'static [Role] = TIMEKEEPERS;
    const REFUSALS: &'static [&'static str] = &[];

    fn command(&self, _: &mut Fields<'_>) -> Option<Command> {
        Some(Command::AdvanceTime)
    }

    fn clear_personal(&mut self) {}
}
