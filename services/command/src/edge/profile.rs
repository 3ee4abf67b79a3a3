//! Reads the profile of a debtor.

use saldo_api::v1;
use saldo_domain::{
    party::{ContactPoint, DebtorKind, Profile, ProfileChange},
    sealed::Sealed,
};
use saldo_facts::{
    address::{check_address, check_line},
    channel_from_api, check_country, check_language, check_time_zone,
    sealed::{CONTACT_ADDRESS, DISPLAY_NAME},
};

use super::{AMENDED, Fields, OPENED};

const MAX_CONTACT_POINTS: usize = 20;

/// A profile of which every field must be given.
pub fn whole(profile: Option<&v1::Profile>, fields: &mut Fields<'_>) -> Option<Profile> {
    let profile = fields.required("profile", profile)?;
    let display_name = name(OPENED, profile, fields);
    let kind = kind(profile, fields);
    let language = language(profile, fields);
    let time_zone = time_zone(profile, fields);
    let country = country(profile, fields);
    let contact_points = contact_points(OPENED, profile, fields);
    Some(Profile {
        display_name: display_name?,
        kind: kind?,
        language: language?,
        time_zone: time_zone?,
        country: country?,
        contact_points: contact_points?,
    })
}

/// The fields named in `mask`.
pub fn change(
    profile: Option<&v1::Profile>,
    mask: Option<&prost_types::FieldMask>,
    fields: &mut Fields<'_>,
) -> Option<ProfileChange> {
    let paths = fields.mask(mask, &["display_name", "kind", "language", "time_zone", "country", "contact_points"])?;
    let profile = fields.required("profile", profile)?;
    let mut change = ProfileChange::default();
    let mut whole = true;
    for path in paths {
        whole &= match path.as_str() {
            "display_name" => set(&mut change.display_name, name(AMENDED, profile, fields)),
            "kind" => set(&mut change.kind, kind(profile, fields)),
            "language" => set(&mut change.language, language(profile, fields)),
            "time_zone" => set(&mut change.time_zone, time_zone(profile, fields)),
            "country" => set(&mut change.country, country(profile, fields)),
            "contact_points" => set(&mut change.contact_points, contact_points(AMENDED, profile, fields)),
            _ => false,
        };
    }
    whole.then_some(change)
}

/// Empties every value that [`whole`] and [`change`] seal.
pub fn clear_personal(profile: &mut Option<v1::Profile>) {
    if let Some(profile) = profile {
        profile.display_name.clear();
        clear_addresses(&mut profile.contact_points);
    }
}

/// Empties the addresses.
pub fn clear_addresses(points: &mut [v1::ContactPoint]) {
    points.iter_mut().for_each(|point| point.address.clear());
}

/// Digests of contact points that a client has seen. They are compared and not stored, so nothing is sealed.
pub fn digests(points: &[v1::ContactPoint], fields: &mut Fields<'_>) -> Option<Vec<[u8; 32]>> {
    let mut digests = Vec::with_capacity(points.len());
    for (index, point) in points.iter().enumerate() {
        match channel_from_api(point.channel) {
            Some(channel) => digests.push(fields.seal.digest(channel, &point.address)),
            None => fields.add(format!("seen_contact_points.points[{index}].channel"), "must be a known channel"),
        }
    }
    (digests.len() == points.len()).then_some(digests)
}

fn set<T>(slot: &mut Option<T>, value: Option<T>) -> bool {
    let given = value.is_some();
    *slot = value;
    given
}

fn name(event_type: &str, profile: &v1::Profile, fields: &mut Fields<'_>) -> Option<Sealed> {
    let path = "profile.display_name";
    let text = &profile.display_name;
    fields.check(path, check_line(text))?;
    Some(fields.seal(path, event_type, DISPLAY_NAME, text))
}

fn kind(profile: &v1::Profile, fields: &mut Fields<'_>) -> Option<DebtorKind> {
    match v1::DebtorKind::try_from(profile.kind) {
        Ok(v1::DebtorKind::Consumer) => Some(DebtorKind::Consumer),
        Ok(v1::DebtorKind::Business) => Some(DebtorKind::Business),
        _ => {
            fields.add("profile.kind", "must be DEBTOR_KIND_CONSUMER or DEBTOR_KIND_BUSINESS");
            None
        }
    }
}

fn language(profile: &v1::Profile, fields: &mut Fields<'_>) -> Option<String> {
    let text = &profile.language;
    fields.check("profile.language", check_language(text)).map(|()| text.clone())
}

fn country(profile: &v1::Profile, fields: &mut Fields<'_>) -> Option<String> {
    let text = &profile.country;
    fields.check("profile.country", check_country(text)).map(|()| text.clone())
}

fn time_zone(profile: &v1::Profile, fields: &mut Fields<'_>) -> Option<String> {
    let text = &profile.time_zone;
    fields.check("profile.time_zone", check_time_zone(text)).map(|()| text.clone())
}

fn contact_points(event_type: &str, profile: &v1::Profile, fields: &mut Fields<'_>) -> Option<Vec<ContactPoint>> {
    if profile.contact_points.len() > MAX_CONTACT_POINTS {
        fields.add("profile.contact_points", format!("must be at most {MAX_CONTACT_POINTS}"));
        return None;
    }
    let mut points = Vec::with_capacity(profile.contact_points.len());
    for (index, point) in profile.contact_points.iter().enumerate() {
        let path = format!("profile.contact_points[{index}].address");
        let Some(channel) = channel_from_api(point.channel) else {
            fields.add(format!("profile.contact_points[{index}].channel"), "must be a known channel");
            continue;
        };
        let Some(text) = fields.check(path.as_str(), check_address(channel, &point.address)) else { continue };
        let address = fields.seal(&path, event_type, CONTACT_ADDRESS, &text);
        points.push(ContactPoint { channel, address, digest: fields.seal.digest(channel, &text) });
    }
    (points.len() == profile.contact_points.len()).then_some(points)
}

#[cfg(test)]
mod tests {
    use saldo_domain::{line::ONE_LINE, party::Channel};

    use super::{
        super::seal::{Personal, Seal},
        *,
    };

    /// Seals nothing, and keeps what it was given.
    #[derive(Default)]
    struct Kept(Vec<String>);

    impl Seal for Kept {
        fn seal(&mut self, value: Personal<'_>) -> Sealed {
            self.0.push(value.text.to_owned());
            Sealed(Vec::new())
        }

        fn digest(&self, _: Channel, _: &str) -> [u8; 32] {
            [0; 32]
        }
    }

    /// The name and the address as they are sealed, or the fields that are refused and why.
    fn opened(name: &str, address: &str) -> Result<Vec<String>, Vec<(String, String)>> {
        let point = v1::ContactPoint { channel: v1::Channel::Email.into(), address: address.to_owned() };
        let profile = v1::Profile {
            display_name: name.to_owned(),
            kind: v1::DebtorKind::Business.into(),
            language: "de".into(),
            time_zone: "Europe/Berlin".into(),
            country: "DE".into(),
            contact_points: vec![point],
        };
        let mut kept = Kept::default();
        let mut fields = Fields::new(&mut kept);
        let whole = whole(Some(&profile), &mut fields);
        let refused: Vec<_> = fields.into_violations().into_iter().map(|one| (one.field, one.rule)).collect();
        assert_eq!(whole.is_none(), !refused.is_empty());
        if refused.is_empty() { Ok(kept.0) } else { Err(refused) }
    }

    #[test]
    fn a_mask_that_names_a_field_again_and_again_is_refused_before_anything_is_sealed() {
        let profile = v1::Profile { display_name: "Ana Gil".into(), ..Default::default() };
        let ask = |paths: Vec<String>| {
            let mut kept = Kept::default();
            let mut fields = Fields::new(&mut kept);
            let change = change(Some(&profile), Some(&prost_types::FieldMask { paths }), &mut fields);
            let faults = fields.into_violations().len();
            (change.is_some(), faults, kept.0.len())
        };
        let named = || "display_name".to_owned();
        assert_eq!(ask(vec![named()]), (true, 0, 1));
        for paths in [vec![named(); 64_000], vec![named(); 2], vec![named(), "iban".to_owned()], Vec::new()] {
            assert_eq!(ask(paths), (false, 1, 0));
        }
    }

    #[test]
    fn a_request_with_a_fault_in_every_field_keeps_few_of_them() {
        let point = v1::ContactPoint::default();
        let mut kept = Kept::default();
        let mut fields = Fields::new(&mut kept);
        for _ in 0..100_000 {
            contact_points(
                AMENDED,
                &v1::Profile { contact_points: vec![point.clone()], ..Default::default() },
                &mut fields,
            );
        }
        assert_eq!(fields.into_violations().len(), crate::violations::MAX_LISTED);
    }

    #[test]
    fn u9_a_domain_in_other_letters_is_kept_in_its_ascii_form() {
        for (given, kept) in [
            ("a@münchen.de", "a@xn--mnchen-3ya.de"),
            ("a@MÜNCHEN.de", "a@xn--mnchen-3ya.de"),
            ("a@例え.jp", "a@xn--r8jz45g.jp"),
            ("Ana@Example.com", "Ana@Example.com"),
        ] {
            assert_eq!(opened("Müller, GmbH", given), Ok(vec!["Müller, GmbH".to_owned(), kept.to_owned()]));
        }
    }

    #[test]
    fn u9_an_address_that_no_mail_can_have_is_refused_with_what_is_wrong() {
        let long = format!("{}@x.de", "l".repeat(65));
        let long_domain = format!("a@{}.de", "ü".repeat(64));
        for (address, word) in [
            ("ü@x.de", "only ASCII before the @"),
            ("a..b@x.de", "no two dots"),
            (".a@x.de", "no dot at either end"),
            ("@x.de", "something before the @"),
            ("a b@x.de", "without spaces"),
            ("\"a\"@x.de", "quotes"),
            ("a@b@x.de", "before the @"),
            ("a,b@x.de", "before the @"),
            ("Ana <a@x.de>", "before the @"),
            ("x.de", "such as ana@example.com"),
            ("a@x", "such as example.com"),
            ("a@x..de", "such as example.com"),
            ("a@-x.de", "such as example.com"),
            ("a@x.de.", "such as example.com"),
            ("a@10.0.0.1", "such as example.com"),
            ("a@[10.0.0.1]", "such as example.com"),
            ("a@mün chen.de", "domain"),
            (long.as_str(), "at most 64"),
            (long_domain.as_str(), "at most 63"),
        ] {
            let refused = opened("Ana", address).expect_err(address);
            let [(field, rule)] = refused.as_slice() else { panic!("{refused:?}") };
            assert_eq!(field, "profile.contact_points[0].address", "{address}");
            assert!(rule.contains(word), "{address} is refused with {rule:?}");
        }
    }

    #[test]
    fn u9_a_name_that_does_not_read_as_it_is_written_is_refused() {
        for mark in ["\u{202e}", "\u{61c}", "\u{200f}", "\u{2066}", "\u{2028}", "\u{2029}", "\n", "\0"] {
            let refused = opened(&format!("Ana{mark}Gil"), "a@x.de").expect_err("refused");
            assert_eq!(refused, [("profile.display_name".to_owned(), ONE_LINE.to_owned())], "{mark:?}");
        }
    }
}
