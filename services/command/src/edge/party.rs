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
    const REFUSALS: &'static [&'static str] = &["CONTACT_POINTS_CHANGED"];

    fn command(&self, fields: &mut Fields<'_>) -> Option<Command> {
        let seen = self.seen_contact_points.as_ref().map(|seen| profile::digests(&seen.points, fields));
        let change = profile::change(self.profile.as_ref(), self.update_mask.as_ref(), fields)?;
        Some(match seen {
            None => party::Command::AmendAccount(change).into(),
            Some(seen) => party::Command::AmendAccountAsSeen { change, seen: seen? }.into(),
        })
    }

    fn clear_personal(&mut self) {
        profile::clear_personal(&mut self.profile);
        self.seen_contact_points.iter_mut().for_each(|seen| profile::clear_addresses(&mut seen.points));
    }
}
