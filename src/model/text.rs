//! The shared parts of all types that are a checked piece of text.

/// Gives a `struct NAME(String)` with a `fn check(&str) -> Result<(), Failure>` its conversions from and to text.
///
/// Every conversion from text, deserialising too, calls `check`.
macro_rules! checked_text {
    ($name:ident) => {
        impl $name {
            /// Returns the text, as it was given.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl std::str::FromStr for $name {
            type Err = $crate::error::Failure;

            fn from_str(text: &str) -> Result<Self, Self::Err> {
                Self::try_from(text.to_owned())
            }
        }

        impl TryFrom<String> for $name {
            type Error = $crate::error::Failure;

            fn try_from(text: String) -> Result<Self, Self::Error> {
                $name::check(&text)?;
                Ok($name(text))
            }
        }
    };
}

/// Serialises a type as the text that `Display` shows.
macro_rules! serialized_as_shown {
    ($name:ident) => {
        impl serde::Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
                to.collect_str(self)
            }
        }
    };
}

/// Gives a type of bytes a `Debug` with the text that `Display` shows.
macro_rules! debugged_as_shown {
    ($name:ident) => {
        impl std::fmt::Debug for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), self)
            }
        }
    };
}

/// As `checked_text`, for text that may be shown and written anywhere.
macro_rules! public_text {
    ($name:ident) => {
        $crate::model::text::checked_text!($name);

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.pad(&self.0)
            }
        }

        $crate::model::text::serialized_as_shown!($name);

        impl<'de> serde::Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
                Self::try_from(String::deserialize(from)?).map_err(serde::de::Error::custom)
            }
        }
    };
}

pub(crate) use {checked_text, debugged_as_shown, public_text, serialized_as_shown};
