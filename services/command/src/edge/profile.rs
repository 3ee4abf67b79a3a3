//! Reads the profile of a debtor.

use jiff::tz::TimeZone;
use saldo_api::v1;
use saldo_domain::{
    party::{Channel, ContactPoint, DebtorKind, Profile, ProfileChange},
    sealed::Sealed,
};
use saldo_facts::{
    channel_from_api,
    sealed::{CONTACT_ADDRESS, DISPLAY_NAME},
};

use super::{AMENDED, Fields, OPENED};

/// Longest name or address, in characters; an e-mail address has at most 254 (RFC 5321, 4.5.3.1.3).
const MAX_TEXT: usize = 254;
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
    let paths = mask.map(|mask| mask.paths.as_slice()).unwrap_or_default();
    if paths.is_empty() {
        fields.add("update_mask", "must name at least one field of the profile");
        return None;
    }
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
            _ => {
                fields.add(
                    "update_mask",
                    "must name only display_name, kind, language, time_zone, country, contact_points",
                );
                false
            }
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
    let text = line(path, &profile.display_name, fields)?;
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
    if text.len() == 2 && text.bytes().all(|b| b.is_ascii_lowercase()) {
        Some(text.clone())
    } else {
        fields.add("profile.language", "must be an ISO 639-1 code in lower case, for example es");
        None
    }
}

fn country(profile: &v1::Profile, fields: &mut Fields<'_>) -> Option<String> {
    let text = &profile.country;
    if text.len() == 2 && text.bytes().all(|b| b.is_ascii_uppercase()) {
        Some(text.clone())
    } else {
        fields.add("profile.country", "must be an ISO 3166-1 alpha-2 code in upper case, for example ES");
        None
    }
}

fn time_zone(profile: &v1::Profile, fields: &mut Fields<'_>) -> Option<String> {
    match TimeZone::get(&profile.time_zone) {
        Ok(zone) if zone.iana_name().is_some() => Some(profile.time_zone.clone()),
        _ => {
            fields.add("profile.time_zone", "must be an IANA time zone, for example Europe/Madrid");
            None
        }
    }
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
        let Some(text) = line(&path, &point.address, fields) else { continue };
        if !is_address(channel, text) {
            fields.add(path, address_rule(channel));
            continue;
        }
        let address = fields.seal(&path, event_type, CONTACT_ADDRESS, text);
        points.push(ContactPoint { channel, address, digest: fields.seal.digest(channel, text) });
    }
    (points.len() == profile.contact_points.len()).then_some(points)
}

/// One line of text: not empty, not too long, no control characters (a CR or LF would end a mail header).
fn line<'t>(path: &str, text: &'t str, fields: &mut Fields<'_>) -> Option<&'t str> {
    if text.trim().is_empty() {
        fields.add(path, "must not be empty");
    } else if text.chars().count() > MAX_TEXT {
        fields.add(path, format!("must be at most {MAX_TEXT} characters"));
    } else if text.chars().any(char::is_control) {
        fields.add(path, "must not hold control characters such as CR, LF or NUL");
    } else {
        return Some(text);
    }
    None
}

fn is_address(channel: Channel, text: &str) -> bool {
    match channel {
        Channel::Email => text.split_once('@').is_some_and(|(local, domain)| {
            !local.is_empty()
                && !domain.is_empty()
                && !domain.contains('@')
                && !text.chars().any(|c| c.is_whitespace() || matches!(c, '<' | '>' | ',' | ';'))
        }),
        // E.164: at most 15 digits, the first not 0.
        Channel::Sms | Channel::Whatsapp | Channel::Phone => text.strip_prefix('+').is_some_and(|digits| {
            (7..=15).contains(&digits.len()) && !digits.starts_with('0') && digits.bytes().all(|b| b.is_ascii_digit())
        }),
        Channel::Post => true,
    }
}

fn address_rule(channel: Channel) -> &'static str {
    match channel {
        Channel::Email => "must be an e-mail address",
        _ => "must be a number in E.164 form, for example +34600000000",
    }
}
