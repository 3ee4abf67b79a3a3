//! Names and contact points in the clear: the only tables with personal data. Their values come from the key store.

use std::collections::BTreeMap;

use saldo_domain::{
    event::Event,
    party::{AccountAmended, AccountOpened, Channel, ContactPoint, Fact},
    sealed::Sealed,
};
use saldo_facts::event_type;

use super::{Accepted, Model, Owner};
use crate::{
    ReadModelError,
    engine::{Arrays, Column, Declaration, Kind, Table, TableRows, Writer},
};

const NAMES: Table = Table {
    personal: Some("display_name"),
    ..Table::new(
        "personal_names",
        "tenant, account",
        &[
            Column::tenant(),
            Column::account(),
            Column::new("display_name", Kind::Text, "The debtor's name; null where it was erased").nullable(),
        ],
    )
};

const CONTACT_POINTS: Table = Table {
    personal: Some("address"),
    ..Table::new(
        "personal_contact_points",
        "tenant, account, position",
        &[
            Column::tenant(),
            Column::account(),
            Column::new("position", Kind::Int, "Number of the contact point on the account, from 0"),
            Column::new("channel", Kind::Text, "email, sms, whatsapp, phone or post"),
            Column::new("address", Kind::Text, "The address; null where it was erased").nullable(),
        ],
    )
};

/// Sealed values that an event brought.
#[derive(Debug, Clone)]
pub struct SealedValues {
    /// Whose.
    pub owner: Owner,
    /// The event that carries them.
    pub event_type: &'static str,
    /// The name, if it changes.
    pub display_name: Option<Sealed>,
    /// The contact points, if they change.
    pub contact_points: Option<Vec<(Channel, Sealed)>>,
}

/// Personal values of a batch, opened; `None` where they were erased.
#[derive(Debug, Default)]
pub struct Opened {
    /// Names.
    pub names: BTreeMap<Owner, Option<String>>,
    /// Contact points: channel and address.
    pub contact_points: BTreeMap<Owner, Vec<(&'static str, Option<String>)>>,
}

/// Sealed values that must be opened before they can be written, in log order: later values win.
#[derive(Debug, Default)]
pub struct Personal {
    /// The values.
    pub sealed: Vec<SealedValues>,
}

impl Model for Personal {
    const DECLARATION: Declaration = Declaration::new("personal", 1, &[NAMES, CONTACT_POINTS], &[]);

    fn add(&mut self, accepted: &Accepted<'_>) {
        let events = accepted.commit.events.iter();
        self.sealed.extend(events.filter_map(|event| sealed_values(accepted.owner, event)));
    }

    async fn write(&self, writer: &mut Writer<'_>) -> Result<(), ReadModelError> {
        let opened = writer.opened;
        let mut names = TableRows::of(&NAMES, opened.names.len());
        for (owner, name) in &opened.names {
            names.change(&[&owner.tenant.as_str(), &owner.account.as_str(), &name.as_deref()]);
        }
        writer.write(names).await?;
        let mut former = Arrays::of([("tenant", Kind::Id), ("account", Kind::Id)]);
        let mut points = TableRows::of(&CONTACT_POINTS, opened.contact_points.values().map(Vec::len).sum());
        for (owner, all) in &opened.contact_points {
            let (tenant, account) = (owner.tenant.as_str(), owner.account.as_str());
            former.row(&[&tenant, &account]);
            for (position, (channel, address)) in (0i32..).zip(all) {
                points.insert(&[&tenant, &account, &position, channel, &address.as_deref()]);
            }
        }
        let replace = "
            DELETE FROM {s}.personal_contact_points p USING {rows} AS r
            WHERE p.tenant = r.tenant AND p.account = r.account";
        writer.run(replace, former).await?;
        writer.write(points).await
    }
}

fn sealed_values(owner: &Owner, event: &Event) -> Option<SealedValues> {
    let Event::Party(fact) = event else { return None };
    let (display_name, contact_points) = match fact {
        Fact::AccountOpened(AccountOpened(profile)) => {
            (Some(profile.display_name.clone()), Some(&profile.contact_points))
        }
        Fact::AccountAmended(AccountAmended(change)) => (change.display_name.clone(), change.contact_points.as_ref()),
    };
    let sealed =
        |points: &Vec<ContactPoint>| points.iter().map(|point| (point.channel, point.address.clone())).collect();
    Some(SealedValues {
        owner: owner.clone(),
        event_type: event_type(event),
        display_name,
        contact_points: contact_points.map(sealed),
    })
}
