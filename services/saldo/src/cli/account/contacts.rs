//! Contact points on the command line: given whole for a new account, and edited one by one afterwards.

use clap::Args;
use saldo_api::v1;

/// The addresses of a new account.
#[derive(Args)]
pub struct NewContacts {
    /// An e-mail address; may be repeated, the preferred one first.
    #[arg(long = "email", value_name = "ADDRESS")]
    emails: Vec<String>,
    /// A telephone number for a person to call, with its country, for example +34600000000; may be repeated.
    #[arg(long = "phone", value_name = "NUMBER")]
    phones: Vec<String>,
    /// A mobile number for SMS; may be repeated.
    #[arg(long = "sms", value_name = "NUMBER")]
    sms: Vec<String>,
    /// A WhatsApp number; may be repeated.
    #[arg(long = "whatsapp", value_name = "NUMBER")]
    whatsapp: Vec<String>,
    /// A postal address in one line; may be repeated.
    #[arg(long = "post", value_name = "ADDRESS")]
    posts: Vec<String>,
}

/// Changes of an account's addresses.
#[derive(Args)]
pub struct Edits {
    /// Add an e-mail address; may be repeated.
    #[arg(long = "add-email", value_name = "ADDRESS")]
    emails: Vec<String>,
    /// Add a telephone number for a person to call, for example +34600000000; may be repeated.
    #[arg(long = "add-phone", value_name = "NUMBER")]
    phones: Vec<String>,
    /// Add a mobile number for SMS; may be repeated.
    #[arg(long = "add-sms", value_name = "NUMBER")]
    sms: Vec<String>,
    /// Add a WhatsApp number; may be repeated.
    #[arg(long = "add-whatsapp", value_name = "NUMBER")]
    whatsapp: Vec<String>,
    /// Add a postal address in one line; may be repeated.
    #[arg(long = "add-post", value_name = "ADDRESS")]
    posts: Vec<String>,
    /// Replace an address by another one of the same channel, at the same place; may be repeated.
    #[arg(long, num_args = 2, value_names = ["FORMER", "NEW"])]
    change: Vec<String>,
    /// Remove an address, from every channel; may be repeated.
    #[arg(long, value_name = "ADDRESS")]
    remove: Vec<String>,
}

fn points(by_channel: [(v1::Channel, &[String]); 5]) -> Vec<v1::ContactPoint> {
    let of = |(channel, addresses): (v1::Channel, &[String])| {
        let point = |address: &String| v1::ContactPoint { channel: channel.into(), address: address.clone() };
        addresses.iter().map(point).collect::<Vec<_>>()
    };
    by_channel.into_iter().flat_map(of).collect()
}

impl NewContacts {
    pub fn points(&self) -> Vec<v1::ContactPoint> {
        points([
            (v1::Channel::Email, &self.emails),
            (v1::Channel::Phone, &self.phones),
            (v1::Channel::Sms, &self.sms),
            (v1::Channel::Whatsapp, &self.whatsapp),
            (v1::Channel::Post, &self.posts),
        ])
    }
}

/// The contact points that an account has, to be given back with changes.
pub fn standing(points: Vec<v1::ContactPointView>) -> Result<Vec<v1::ContactPoint>, String> {
    let point = |point: v1::ContactPointView| match point.address.is_empty() {
        false => Ok(v1::ContactPoint { channel: point.channel, address: point.address }),
        true => Err("an address of the account was erased, so that its contact points cannot be changed".to_owned()),
    };
    points.into_iter().map(point).collect()
}

impl Edits {
    pub fn is_empty(&self) -> bool {
        self.change.is_empty() && self.remove.is_empty() && self.added().is_empty()
    }

    fn added(&self) -> Vec<v1::ContactPoint> {
        points([
            (v1::Channel::Email, &self.emails),
            (v1::Channel::Phone, &self.phones),
            (v1::Channel::Sms, &self.sms),
            (v1::Channel::Whatsapp, &self.whatsapp),
            (v1::Channel::Post, &self.posts),
        ])
    }

    /// The contact points after the changes. An address that is added and there already stays where it is.
    pub fn apply(&self, mut points: Vec<v1::ContactPoint>) -> Result<Vec<v1::ContactPoint>, String> {
        let missing = |flag: &str| {
            // The address itself is personal, and errors go to logs.
            format!("{flag}: the account has no such address; `saldo account show` lists its addresses")
        };
        for pair in self.change.chunks_exact(2) {
            let mut changed = false;
            for point in points.iter_mut().filter(|point| same(&point.address, &pair[0])) {
                point.address.clone_from(&pair[1]);
                changed = true;
            }
            if !changed {
                return Err(missing("--change"));
            }
        }
        for address in &self.remove {
            let before = points.len();
            points.retain(|point| !same(&point.address, address));
            if points.len() == before {
                return Err(missing("--remove"));
            }
        }
        for added in self.added() {
            let there =
                points.iter().any(|point| point.channel == added.channel && same(&point.address, &added.address));
            if !there {
                points.push(added);
            }
        }
        Ok(points)
    }
}

/// Addresses are compared without case and without surrounding space, as the service compares them.
fn same(one: &str, other: &str) -> bool {
    one.trim().to_lowercase() == other.trim().to_lowercase()
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Command {
        #[command(flatten)]
        edits: Edits,
    }

    fn edited(points: &[(v1::Channel, &str)], args: &[&str]) -> Result<Vec<(v1::Channel, String)>, String> {
        let edits = Command::try_parse_from(["amend"].iter().chain(args)).expect("flags").edits;
        let point = |(channel, address): &(v1::Channel, &str)| v1::ContactPoint {
            channel: (*channel).into(),
            address: (*address).to_owned(),
        };
        let edited = edits.apply(points.iter().map(point).collect())?;
        Ok(edited.into_iter().map(|point| (point.channel(), point.address)).collect())
    }

    #[test]
    fn addresses_are_added_changed_and_removed_and_the_others_stay_in_their_order() {
        use v1::Channel::{Email, Phone};
        let before = [(Email, "ana@x.es"), (Phone, "+34600000000"), (Email, "b@x.es")];
        let owned = |points: &[(v1::Channel, &str)]| {
            Ok(points.iter().map(|(channel, address)| (*channel, (*address).to_owned())).collect::<Vec<_>>())
        };
        let added = edited(&before, &["--add-email", "c@x.es", "--add-email", "ANA@x.es"]);
        assert_eq!(added, owned(&[before[0], before[1], before[2], (Email, "c@x.es")]));
        let changed = edited(&before, &["--change", "Ana@x.es", "ana@y.es"]);
        assert_eq!(changed, owned(&[(Email, "ana@y.es"), before[1], before[2]]));
        assert_eq!(edited(&before, &["--remove", "+34600000000"]), owned(&[before[0], before[2]]));
        for args in [&["--remove", "d@x.es"][..], &["--change", "d@x.es", "e@x.es"]] {
            let error = edited(&before, args).expect_err("no such address");
            assert!(error.contains("no such address") && !error.contains("d@x.es"), "{error}");
        }
    }

    #[test]
    fn an_erased_address_is_not_overwritten_with_nothing() {
        assert!(standing(vec![v1::ContactPointView { channel: 1, address: String::new() }]).is_err());
    }
}
