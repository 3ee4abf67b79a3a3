//! How values of a policy are written in its TOML.

/// Channels by their stable names.
pub mod channel {
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    use crate::party::Channel;

    pub fn serialize<S: Serializer>(channel: &Channel, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(channel.name())
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Channel, D::Error> {
        let name = String::deserialize(deserializer)?;
        Channel::parse(&name).ok_or_else(|| D::Error::custom("must be email, sms, whatsapp, phone or post"))
    }
}

/// Weekdays by three letters.
pub mod weekdays {
    use jiff::civil::Weekday;
    use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error};

    const NAMES: [(&str, Weekday); 7] = [
        ("mon", Weekday::Monday),
        ("tue", Weekday::Tuesday),
        ("wed", Weekday::Wednesday),
        ("thu", Weekday::Thursday),
        ("fri", Weekday::Friday),
        ("sat", Weekday::Saturday),
        ("sun", Weekday::Sunday),
    ];

    pub fn serialize<S: Serializer>(days: &[Weekday], serializer: S) -> Result<S::Ok, S::Error> {
        let names = days.iter().filter_map(|day| NAMES.iter().find(|(_, one)| one == day).map(|(name, _)| *name));
        names.collect::<Vec<_>>().serialize(serializer)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Weekday>, D::Error> {
        let day = |name: String| {
            let known = NAMES.iter().find(|(one, _)| *one == name).map(|(_, day)| *day);
            known.ok_or_else(|| D::Error::custom("must be mon, tue, wed, thu, fri, sat or sun"))
        };
        Vec::<String>::deserialize(deserializer)?.into_iter().map(day).collect()
    }
}

/// A time of day to the minute, `09:30`.
pub mod minute {
    use jiff::civil::Time;
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    pub fn serialize<S: Serializer>(time: &Time, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&format_args!("{:02}:{:02}", time.hour(), time.minute()))
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Time, D::Error> {
        let text = String::deserialize(deserializer)?;
        Time::strptime("%H:%M", &text).map_err(|_| D::Error::custom("must be a time of day such as 09:30"))
    }
}

/// The same at the end of a window, where midnight is `24:00`.
pub mod end_minute {
    use jiff::civil::Time;
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    const END_OF_DAY: &str = "24:00";

    pub fn serialize<S: Serializer>(time: &Time, serializer: S) -> Result<S::Ok, S::Error> {
        if *time == Time::midnight() {
            serializer.serialize_str(END_OF_DAY)
        } else {
            super::minute::serialize(time, serializer)
        }
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Time, D::Error> {
        let text = String::deserialize(deserializer)?;
        match (text.as_str(), Time::strptime("%H:%M", &text)) {
            (END_OF_DAY, _) => Ok(Time::midnight()),
            (_, Ok(time)) if time != Time::midnight() => Ok(time),
            _ => Err(D::Error::custom("must be a time of day such as 19:30, or 24:00")),
        }
    }
}
