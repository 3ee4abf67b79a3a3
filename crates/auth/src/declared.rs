//! The declarations of a service's rpcs, and the check that its proto file says the same.

use saldo_api::ApiRequest;

use crate::Role;

/// The declaration of an rpc, as data. Each service makes the list of its rpcs from their declarations.
#[derive(Debug, Clone, Copy)]
pub struct Declared {
    /// The service's name.
    pub service: &'static str,
    /// The rpc's name.
    pub method: &'static str,
    /// The roles that may call it; one of them is enough.
    pub roles: &'static [Role],
    /// The reasons for which it may be refused, besides those that any rpc of the service may have.
    pub reasons: &'static [&'static str],
}

impl Declared {
    /// Declares the rpc with this request.
    pub const fn of<R: ApiRequest>(roles: &'static [Role], reasons: &'static [&'static str]) -> Self {
        Self { service: R::SERVICE, method: R::METHOD, roles, reasons }
    }
}

/// Where the comments of the proto file say something else than the declarations of a service; empty where they agree.
///
/// The comment on the service ends the roles of most rpcs with "unless the rpc says otherwise". An rpc names other roles as
/// "Role A or B." and its reasons as "Reasons: A, B."
pub fn contradictions(declared: &[Declared]) -> Vec<String> {
    let Some(first) = declared.first() else { return Vec::new() };
    let comments = saldo_api::comments(first.service);
    let usual = roles(sentence(&comments.service, "Role ").unwrap_or_default());
    let mut found = Vec::new();
    for one in declared {
        let Declared { service, method, .. } = one;
        let comment = comments.rpcs.get(*method).map_or("", String::as_str);
        let said = sentence(comment, "Role ").map_or_else(|| usual.clone(), roles);
        let meant: Vec<String> = one.roles.iter().map(|role| role.name().to_owned()).collect();
        if said != meant {
            found.push(format!("{service}/{method}: the comment names the roles {said:?}, the declaration {meant:?}"));
        }
        let said: Vec<&str> = sentence(comment, "Reasons: ").map_or(Vec::new(), |list| list.split(", ").collect());
        if said != one.reasons {
            let meant = one.reasons;
            found
                .push(format!("{service}/{method}: the comment names the reasons {said:?}, the declaration {meant:?}"));
        }
    }
    if declared.len() != comments.rpcs.len() {
        let (declared, rpcs) = (declared.len(), comments.rpcs.len());
        found.push(format!("{}: {declared} rpcs are declared, the proto file has {rpcs}", first.service));
    }
    found
}

/// The sentence that begins so, without its beginning and its end.
fn sentence<'c>(comment: &'c str, begin: &str) -> Option<&'c str> {
    let (_, rest) = comment.split_once(begin)?;
    rest.split('.').next()
}

fn roles(sentence: &str) -> Vec<String> {
    let list = sentence.split(" unless ").next().unwrap_or_default().replace(" or ", ",");
    list.split(',').map(|name| name.trim().to_owned()).filter(|name| !name.is_empty()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_comment_says_otherwise_is_found() {
        let declared = |roles, reasons| Declared { service: "CommandService", method: "ReleaseHold", roles, reasons };
        let reasons: &[&str] = &["HOLD_UNKNOWN", "HOLD_RELEASED"];
        let found = |one| contradictions(&[one]).into_iter().filter(|text| text.contains("ReleaseHold")).count();
        assert_eq!(found(declared(&[Role::Writer], reasons)), 0);
        assert_eq!(found(declared(&[Role::Reader], reasons)), 1);
        assert_eq!(found(declared(&[Role::Reader], &[])), 2);
    }
}
