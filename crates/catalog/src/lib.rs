//! The catalog: what creditors publish. Policies with their templates, as people write them, and the switch that says
//! whether anything is sent; a small log of its own with one chain a tenant, whose version is the policy version.
//!
//! - [`sources`] checks what was written and names every fault.
//! - [`fold`] is the fold of the catalog's commits.
//! - [`reader`] follows the log, so that every process knows what is in force.

pub mod fold;
pub mod reader;
pub mod sources;

use jiff::tz::TimeZone;

pub use fold::{State, TenantCatalog};
pub use reader::{Catalog, CatalogError};
pub use sources::{Fault, Published, Source};

/// The account part of a record's key in the catalog: a tenant has one chain there.
pub const CHAIN: &str = "catalog";
/// Partitions of the catalog's topic.
pub const PARTITIONS: u32 = 1;

/// The time zones, by their IANA names.
pub fn zone(name: &str) -> Option<TimeZone> {
    TimeZone::get(name).ok()
}
