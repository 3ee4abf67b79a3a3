//! Enums whose values have stable names.

/// Declares an enum with the stable name of each value, as stored and shown.
macro_rules! named {
    ($(#[$doc:meta])* $name:ident { $($(#[$about:meta])* $value:ident = $text:literal),+ $(,)? }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
        pub enum $name { $($(#[$about])* $value),+ }

        impl $name {
            /// Every value, in the order of its declaration.
            pub const ALL: &[Self] = &[$(Self::$value),+];

            /// The value's stable name.
            pub fn name(self) -> &'static str {
                match self { $(Self::$value => $text),+ }
            }

            /// The value of a stable name.
            pub fn parse(name: &str) -> Option<Self> {
                Self::ALL.iter().find(|value| value.name() == name).copied()
            }
        }
    };
}
pub(crate) use named;
