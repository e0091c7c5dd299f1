//! Which proxy a request goes through, as curl and Python's requests read the environment.

use ureq::{Proxy, ProxyProtocol};

/// A proxy and the variable that names it.
#[derive(Debug, PartialEq, Eq)]
pub struct Found {
    pub variable: &'static str,
    pub proxy: Proxy,
}

/// True when an entry of NO_PROXY stands for the host: "*"; the host itself; a domain, with or
/// without a dot or "*." before it; each with ":PORT" if only that port is meant.
fn covers(entry: &str, host: &str, port: u16) -> bool {
    let entry = entry.trim().to_ascii_lowercase();
    let (name, of_port) = match entry.rsplit_once(':') {
        Some((name, digits)) if !name.contains(':') && !name.is_empty() => {
            (name.to_string(), digits.parse::<u16>().ok())
        }
        _ => (entry, None),
    };
    if name == "*" {
        return true;
    }
    let name = name.trim_start_matches('*').trim_start_matches('.').trim_matches(['[', ']']);
    let host = host.trim_matches(['[', ']']).to_ascii_lowercase();
    let same = host == name || host.strip_suffix(name).is_some_and(|rest| rest.ends_with('.'));
    !name.is_empty() && same && of_port.is_none_or(|wanted| wanted == port)
}

/// The proxy of an address, or none. `env` gives the value of a variable. An error names the
/// variable and not its value, which may hold a password.
pub fn proxy_for(
    tls: bool,
    host: &str,
    port: u16,
    env: impl Fn(&str) -> Option<String>,
) -> Result<Option<Found>, String> {
    let names = if tls {
        ["https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"]
    } else {
        ["http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"]
    };
    let given = |name: &&'static str| env(name).map(|value| (*name, value.trim().to_string()));
    let Some((variable, value)) = names.iter().find_map(given) else { return Ok(None) };
    let list = |name| env(name).filter(|value| !value.is_empty());
    let no_proxy = list("no_proxy").or_else(|| list("NO_PROXY")).unwrap_or_default();
    let direct = no_proxy.split([',', ' ']).any(|entry| covers(entry, host, port));
    if value.is_empty() || direct {
        return Ok(None);
    }
    let expected = "expected http://[USER:PASSWORD@]HOST:PORT";
    if value.to_ascii_lowercase().starts_with("socks") {
        return Err(format!("{variable}: SOCKS proxies are not supported; {expected}"));
    }
    match Proxy::new(&value) {
        Ok(proxy)
            if matches!(proxy.protocol(), ProxyProtocol::Http | ProxyProtocol::Https)
                && !proxy.host().is_empty() =>
        {
            Ok(Some(Found { variable, proxy }))
        }
        _ => Err(format!("{variable}: is no address of a proxy; {expected}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(tls: bool, host: &str, variables: &[(&str, &str)]) -> Result<String, String> {
        let env = |name: &str| {
            variables.iter().find(|(n, _)| *n == name).map(|(_, value)| value.to_string())
        };
        let proxy = proxy_for(tls, host, 443, env)?;
        Ok(proxy.map_or("direct".to_string(), |f| {
            let user = f.proxy.username().map_or(String::new(), |u| format!("{u}@"));
            format!("{} {user}{}:{}", f.variable, f.proxy.host(), f.proxy.port())
        }))
    }

    #[test]
    fn each_scheme_has_its_variable() {
        let both = [("HTTPS_PROXY", "http://a:1"), ("HTTP_PROXY", "b:2"), ("ALL_PROXY", "http://c:3")];
        assert_eq!(found(true, "hub.co", &both).unwrap(), "HTTPS_PROXY a:1");
        assert_eq!(found(false, "hub.co", &both).unwrap(), "HTTP_PROXY b:2");
        assert_eq!(found(true, "hub.co", &both[2..]).unwrap(), "ALL_PROXY c:3");
        assert_eq!(found(true, "hub.co", &both[1..2]).unwrap(), "direct");
        assert_eq!(found(true, "hub.co", &[("https_proxy", ""), both[0]]).unwrap(), "direct");
        let user = [("HTTPS_PROXY", "http://me:p%40ss@a:1")];
        assert_eq!(found(true, "hub.co", &user).unwrap(), "HTTPS_PROXY me@a:1");
    }

    #[test]
    fn no_proxy_names_hosts_and_domains() {
        let direct = |list: &str, host: &str| {
            let variables = [("HTTPS_PROXY", "http://a:1"), ("NO_PROXY", list)];
            found(true, host, &variables).unwrap() == "direct"
        };
        for list in ["*", "hub.co", "x, HUB.CO", ".hub.co", "co", "*.hub.co,y", "hub.co:443", "x hub.co"]
        {
            assert!(direct(list, "hub.co"), "{list}");
        }
        for list in ["", "b.co", "hub.co:80", "ub.co", "hub.co.uk", ","] {
            assert!(!direct(list, "hub.co"), "{list}");
        }
        assert!(direct("hub.co", "cdn.hub.co"));
        assert!(direct("127.0.0.1", "127.0.0.1"));
        assert!(direct("::1", "[::1]"));
    }

    #[test]
    fn errors_name_the_variable_and_no_password() {
        for value in ["socks5://me:secret@a:1", "ftp://me:secret@a", "http://me:secret@:x", "http://"] {
            let error = found(true, "hub.co", &[("ALL_PROXY", value)]).unwrap_err();
            assert!(error.starts_with("ALL_PROXY: ") && !error.contains("secret"), "{error}");
        }
    }
}
