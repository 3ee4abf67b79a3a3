//! The catalog: a small log of its own. Each creditor has one chain there with its policies and their templates, its
//! settings, and the switch that says whether anything is sent. The chain's version is the policy version. The reserved tenant
//! `system` has one chain for all: which facts the log may hold.
//!
//! - [`sources`] checks a policy as people write it, [`settings`] a creditor's settings. Both name every fault.
//! - [`fold`] is the fold of the catalog's commits: [`tenant`] of a creditor's chain, [`system`] of the operator's, with the
//!   gate for newer facts.
//! - [`reader`] follows the log, so that every process knows what is in force.
//! - [`publish`] appends to a chain; [`operator`] to the operator's, and [`upgrade`] raises the format that a log allows there.

pub mod fold;
pub mod operator;
pub mod publish;
pub mod reader;
pub mod settings;
pub mod sources;
pub mod system;
pub mod tenant;
pub mod upgrade;

use jiff::tz::TimeZone;

pub use fold::{InForce, State};
pub use reader::{Catalog, CatalogError};
pub use sources::{Fault, Published, Source};
pub use system::{FormatNotRaised, SystemCatalog};
pub use tenant::TenantCatalog;

/// The account part of a record's key in the catalog: a tenant has one chain there, and so has `system`.
pub const CHAIN: &str = "catalog";
/// Partitions of the catalog's topic.
pub const PARTITIONS: u32 = 1;

/// The time zones, by their IANA names.
pub fn zone(name: &str) -> Option<TimeZone> {
    TimeZone::get(name).ok()
}
