//! The rules for a policy, and the names of its faults.

use jiff::civil::{Time, Weekday};
use saldo_domain::{
    dunning::policy::{Contact, Policy, Sender, Step, Tone, Window},
    party::Channel,
};

pub fn step(name: &str, offset_days: i32, tone: Tone) -> Step {
    Step { name: name.into(), offset_days, tone, channel: Channel::Email, template: name.into() }
}

fn window(from: i8, to: i8) -> Window {
    Window {
        days: vec![Weekday::Monday, Weekday::Friday],
        from: Time::constant(from, 0, 0, 0),
        to: Time::constant(to, 0, 0, 0),
    }
}

pub fn sound() -> Policy {
    Policy {
        sender: Sender {
            name: "Ejemplo, S.L.".into(),
            email: "cobros@example.com".into(),
            reply_to: None,
            payment: "IBAN ES91 2100 0418 4502 0005 1332".into(),
            language: "es".into(),
        },
        contact: Contact {
            time_zone: "debtor".into(),
            windows: vec![window(9, 14), window(16, 20)],
            min_distance_days: 3,
            max_per_day: 1,
            max_per_week: 2,
            backoff_minutes: vec![15, 60],
            may_soften: false,
        },
        steps: vec![
            step("courtesy", -3, Tone::Friendly),
            step("due", 0, Tone::Friendly),
            step("first", 7, Tone::Firm),
            step("last", 30, Tone::Formal),
        ],
    }
}

fn fields(policy: &Policy) -> Vec<String> {
    let zones = |name: &str| name == "Europe/Madrid";
    policy.check(zones).into_iter().map(|fault| fault.field).collect()
}

#[test]
fn the_most_messages_a_week_are_explained_by_the_most_a_day() {
    let mut policy = sound();
    (policy.contact.max_per_day, policy.contact.max_per_week) = (3, 2);
    let faults = policy.check(|_| true);
    let told: Vec<String> = faults.iter().map(|fault| format!("{}: {}", fault.field, fault.rule)).collect();
    assert_eq!(told, ["contact.max_per_week: must be at least 3, which is contact.max_per_day, and at most 35"]);
}

#[test]
fn a_sound_policy_has_no_fault() {
    assert_eq!(fields(&sound()), [""; 0]);
    let mut fixed = sound();
    fixed.contact.time_zone = "Europe/Madrid".into();
    assert_eq!(fields(&fixed), [""; 0]);
}

#[test]
fn each_fault_is_named_where_it_stands() {
    type Change = fn(&mut Policy);
    let cases: [(&str, Change); 25] = [
        ("step", |policy| policy.steps.clear()),
        ("step[1].offset_days", |policy| policy.steps[1].offset_days = -3),
        ("step[1].offset_days", |policy| policy.steps[1].offset_days = -4),
        ("step[1].offset_days", |policy| policy.steps[1].offset_days = -1),
        ("step[3].offset_days", |policy| policy.steps[3].offset_days = 731),
        ("step[0].offset_days", |policy| policy.steps[0].offset_days = -61),
        ("step[2].name", |policy| policy.steps[2].name = "due".into()),
        ("step[2].name", |policy| policy.steps[2].name = "First reminder".into()),
        ("step[2].template", |policy| policy.steps[2].template = "../x".into()),
        ("step[3].tone", |policy| policy.steps[3].tone = Tone::Friendly),
        ("step[0].channel", |policy| policy.steps[0].channel = Channel::Sms),
        ("contact.time_zone", |policy| policy.contact.time_zone = "Europe/Atlantis".into()),
        ("contact.window", |policy| policy.contact.windows.clear()),
        ("contact.window[0].days", |policy| policy.contact.windows[0].days.clear()),
        ("contact.window[0].days", |policy| policy.contact.windows[0].days.push(Weekday::Monday)),
        ("contact.window[0].to", |policy| policy.contact.windows[0].to = Time::constant(8, 0, 0, 0)),
        ("contact.window[0].to", |policy| policy.contact.windows[0].to = Time::constant(9, 29, 0, 0)),
        ("contact.window[1].from", |policy| policy.contact.windows[1].from = Time::constant(13, 0, 0, 0)),
        ("contact.max_per_week", |policy| policy.contact.max_per_week = 0),
        ("contact.backoff_minutes", |policy| policy.contact.backoff_minutes = vec![0]),
        ("sender.name", |policy| policy.sender.name = "Ejemplo\r\nBcc: all@example.com".into()),
        ("sender.name", |policy| policy.sender.name = "Ejemplo \u{202e}.L.S".into()),
        ("sender.name", |policy| policy.sender.name = "Ejemplo\u{2028}S.L.".into()),
        ("sender.payment", |policy| policy.sender.payment = "IBAN\n\u{2067}ES91".into()),
        ("sender.email", |policy| policy.sender.email = "cobros@example.com>\r\nBcc: x".into()),
    ];
    for (expected, change) in cases {
        let mut policy = sound();
        change(&mut policy);
        assert_eq!(fields(&policy), [expected], "{policy:?}");
    }
}

#[test]
fn all_faults_are_named_at_once() {
    let mut policy = sound();
    policy.contact.max_per_day = 0;
    policy.sender.payment = String::new();
    policy.steps[0].name = String::new();
    assert_eq!(fields(&policy), ["sender.payment", "contact.max_per_day", "step[0].name"]);
}

#[test]
fn a_window_may_last_until_the_end_of_the_day() {
    let text = r#"{"days": ["mon"], "from": "08:00", "to": "24:00"}"#;
    let all_day: Window = serde_json::from_str(text).expect("a window");
    let mut policy = sound();
    policy.contact.windows = vec![all_day.clone(), Window { from: Time::constant(7, 0, 0, 0), ..window(7, 9) }];
    assert_eq!(fields(&policy), ["contact.window[1].from"], "they overlap");
    assert!(serde_json::to_string(&all_day).expect("text").contains("24:00"));
    assert!(serde_json::from_str::<Window>(&text.replace("24:00", "00:00")).is_err());
}

#[test]
fn no_mail_can_come_from_what_is_no_address() {
    for address in [
        "a..b@example.com",
        ".a@example.com",
        "a.@example.com",
        "a@example..com",
        "a@example.com.",
        "a@-example.com",
        "a@exa_mple.com",
        "a@example",
        "@example.com",
        "a@b@example.com",
        "ü@example.com",
        "a@münchen.example",
        "a@192.0.2.1",
    ] {
        let mut policy = sound();
        policy.sender.email = address.into();
        assert_eq!(fields(&policy), ["sender.email"], "{address}");
    }
    for address in ["o'neil+cobros@sub.example-1.com", "cobros_1@xn--espaa-rta.example"] {
        let mut policy = sound();
        policy.sender.reply_to = Some(address.into());
        assert_eq!(fields(&policy), [""; 0], "{address}");
    }
}
