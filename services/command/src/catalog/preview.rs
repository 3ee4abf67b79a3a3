//! The contacts that an account would get if nothing else happened, with their times.

use saldo_api::v1;
use saldo_auth::Caller;
use saldo_domain::{
    Context, Rules,
    dunning::preview::{PlannedContact, preview_while},
    ids::{AccountId, AccountKey, TenantId},
};
use saldo_facts::{REQUEST_INSTANT_RULE, instant_from_request, listed_to_api, notice_to_api, timestamp_to_api};

use super::{
    CatalogGrpc,
    heavy::{GoesOn, Place},
    is_on,
    request::{invalid, sound, sources},
    silence,
};
use crate::failure::Failure;

/// Contacts of a preview at most: two years of the closest policy.
const MAX_PREVIEW: usize = 500;
/// Contacts of a preview that names no number.
const USUAL_PREVIEW: usize = 100;

impl CatalogGrpc {
    pub(super) async fn preview(
        &self,
        caller: &Caller,
        request: v1::PreviewContactsRequest,
        place: Place,
    ) -> Result<v1::PreviewContactsResponse, Failure> {
        let tenant = TenantId::new(&caller.tenant).map_err(|rule| invalid("tenant", rule.to_string()))?;
        let account = AccountId::new(&request.account_id).map_err(|rule| invalid("account_id", rule.to_string()))?;
        let in_force = self.catalog.state().in_force(&caller.tenant).tenant;
        let speaking = Rules { sending: true, held: false, ..in_force.rules.as_ref().clone() };
        let (rules, policy_version) = if request.draft.is_empty() {
            (speaking, in_force.version)
        } else {
            let files = sources(&request.draft);
            let trial = move |goes_on: &GoesOn| sound(&files, goes_on);
            let draft = self.heavy.run(&caller.tenant, place.clone(), trial).await??;
            (Rules { languages: draft.languages(), policy: Some(draft.policy), ..speaking }, 0)
        };
        let Some(policy) = &rules.policy else {
            return Err(invalid("draft", "is required while no policy is published (`saldo policy publish`)"));
        };
        let now = match request.from {
            Some(from) => instant_from_request(from).ok_or_else(|| invalid("from", REQUEST_INSTANT_RULE))?,
            None => self.clock.now(),
        };
        let most = match request.most {
            0 => USUAL_PREVIEW,
            most => usize::try_from(most)
                .ok()
                .filter(|most| *most <= MAX_PREVIEW)
                .ok_or_else(|| invalid("most", format!("must be 1 to {MAX_PREVIEW}, or 0 for {USUAL_PREVIEW}")))?,
        };
        let stored = self.commands.look(&AccountKey::new(tenant, account).to_string()).await?;
        if let Some(why) = stored.parked {
            return Err(Failure::Parked(why));
        }
        let Some(profile) = &stored.account.party.profile else { return Err(Failure::AccountUnknown) };
        let zone = policy.contact.zone(&profile.time_zone).to_owned();
        let account = stored.account.clone();
        // Hundreds of contacts about thousands of items take a while.
        let preview = move |goes_on: &GoesOn| {
            let context = Context { now, rules: &rules, zones: saldo_catalog::zone };
            let planned = preview_while(&account, &context, most, || goes_on.check());
            (planned, account.ledger.nothing_owed_on(context.today()), goes_on.is_late())
        };
        let (planned, nothing_owed, is_late) = self.heavy.run(&caller.tenant, place, preview).await?;
        if is_late {
            return Err(invalid("most", "takes too long for this account: ask for fewer contacts"));
        }
        let contacts = planned.iter().map(|planned| v1::PlannedContact {
            at: Some(timestamp_to_api(planned.at)),
            saying: Some(notice_to_api(&planned.notice)),
            language: planned.language.clone(),
            withheld: withheld(planned),
            items: planned.items.iter().map(listed_to_api).collect(),
        });
        Ok(v1::PreviewContactsResponse {
            contacts: contacts.collect(),
            time_zone: zone,
            policy_version,
            sending: is_on(&in_force.rules),
            silence: silence(&in_force.rules),
            nothing_owed: nothing_owed
                .into_iter()
                .map(|(currency, minor_units)| v1::Money { minor_units, currency: currency.to_string() })
                .collect(),
        })
    }
}

/// Why nothing would be sent, as the read models say it: `held: H-1` names the hold.
fn withheld(planned: &PlannedContact) -> String {
    match (planned.withheld, &planned.hold) {
        (None, _) => String::new(),
        (Some(reason), None) => reason.name().to_owned(),
        (Some(reason), Some(hold)) => format!("{}: {hold}", reason.name()),
    }
}
