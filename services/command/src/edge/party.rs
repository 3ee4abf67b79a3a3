//! The rpcs about the debtor: who owes, and how they are reached.

use saldo_api::v1;
use saldo_auth::Role;
use saldo_domain::{command::Command, party};

use super::{Fields, RECORDERS, Rpc, profile};

impl Rpc for v1::OpenAccountRequest {
    const ROLES: &'static [Role] = RECORDERS;
    const REFUSALS: &'static [&'static str] = &["ACCOUNT_ALREADY_OPEN"];
    const OPENS_ACCOUNT: bool = true;

    fn command(&self, fields: &mut Fields<'_>) -> Option<Command> {
        profile::whole(self.profile.as_ref(), fields).map(party::Command::OpenAccount).map(Into::into)
    }

    fn clear_personal(&mut self) {
        profile::clear_personal(&mut self.profile);
    }
}

impl Rpc for v1::AmendAccountRequest {
    const ROLES: &'static [Role] = RECORDERS;
    const REFUSALS: &'static [&'static str] = &[];

    fn command(&self, fields: &mut Fields<'_>) -> Option<Command> {
        profile::change(self.profile.as_ref(), self.update_mask.as_ref(), fields)
            .map(party::Command::AmendAccount)
            .map(Into::into)
    }

    fn clear_personal(&mut self) {
        profile::clear_personal(&mut self.profile);
    }
}
