//! HTTP behind include/lewis_http.h: ureq with rustls, over sockets that wait in short slices, so
//! that a caller's wish to end is noticed wherever a request is.

use std::cell::Cell;
use std::ffi::c_void;
use std::io::{self, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::path::Path;
use std::sync::mpsc::{sync_channel, RecvTimeoutError};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use ureq::config::Config;
use ureq::http::{Request, Response, Uri};
use ureq::tls::{Certificate, RootCerts, TlsConfig};
use ureq::unversioned::resolver::{DefaultResolver, ResolvedSocketAddrs, Resolver};
use ureq::unversioned::transport::{
    Buffers, ConnectProxyConnector, ConnectionDetails, Connector, Either, LazyBuffers, NextTimeout,
    RustlsConnector, Transport,
};
use ureq::{Agent, BodyReader, Error, Proxy, ProxyProtocol, SendBody};

use crate::border::{guard, str_arg, take, Text};
use crate::proxy::proxy_for;

/// How long a wait lasts before the caller is asked whether to go on.
const SLICE: Duration = Duration::from_millis(200);
/// Answers with more than this in their headers are refused.
const MOST_OF_HEADERS: usize = 128 << 10;

/// LewisHttpStop.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Stop {
    stop: Option<unsafe extern "C" fn(*mut c_void) -> bool>,
    context: *mut c_void,
}

/// LewisHttpBody.
#[repr(C)]
pub struct Body {
    pull: Option<unsafe extern "C" fn(*mut c_void, *mut u8, usize) -> usize>,
    context: *mut c_void,
    size: u64,
}

thread_local! {
    /// Whom to ask during the call that this thread is in.
    static STOP: Cell<Option<Stop>> = const { Cell::new(None) };
}

/// Runs `body` with everything that waits on this thread asking `stop`.
fn with_stop<T>(stop: Stop, body: impl FnOnce() -> T) -> T {
    struct Reset;
    impl Drop for Reset {
        fn drop(&mut self) {
            STOP.set(None);
        }
    }
    STOP.set(Some(stop));
    let _reset = Reset;
    body()
}

fn check_stop() -> io::Result<()> {
    let Some(Stop { stop: Some(stop), context }) = STOP.get() else { return Ok(()) };
    // SAFETY: the header promises that the function may be called with its context.
    if unsafe { stop(context) } {
        return Err(io::Error::other("stopped by the caller"));
    }
    Ok(())
}

fn timed_out(what: &str, limit: Duration) -> io::Error {
    let text = format!("{what} for {} s", limit.as_secs_f64());
    io::Error::new(io::ErrorKind::TimedOut, text)
}

/// The result of `work`, which may block as long as it likes on a thread of its own.
fn wait_for<T: Send + 'static>(
    what: &str,
    limit: Duration,
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    let (sender, receiver) = sync_channel(1);
    std::thread::Builder::new().spawn(move || sender.send(work()).ok())?;
    let begun = Instant::now();
    loop {
        check_stop()?;
        match receiver.recv_timeout(SLICE) {
            Ok(result) => return result,
            Err(RecvTimeoutError::Disconnected) => return Err(io::Error::other("a thread died")),
            Err(RecvTimeoutError::Timeout) if begun.elapsed() >= limit => {
                return Err(timed_out(what, limit));
            }
            Err(RecvTimeoutError::Timeout) => {}
        }
    }
}

#[derive(Debug)]
struct PatientResolver {
    limit: Duration,
}

impl Resolver for PatientResolver {
    fn resolve(
        &self,
        uri: &Uri,
        _: &Config,
        _: NextTimeout,
    ) -> Result<ResolvedSocketAddrs, Error> {
        let parts = uri.scheme().zip(uri.authority());
        let Some(name) = parts.and_then(|(s, a)| DefaultResolver::host_and_port(s, a)) else {
            return Err(Error::BadUri(uri.to_string()));
        };
        let work = move || Ok(name.to_socket_addrs()?.take(16).collect::<Vec<_>>());
        let mut found = self.empty();
        for address in wait_for("no answer of the name service", self.limit, work)? {
            found.push(address);
        }
        if found.is_empty() { Err(Error::HostNotFound) } else { Ok(found) }
    }
}

#[derive(Debug)]
struct PatientConnector {
    limit: Duration,
}

impl<In: Transport> Connector<In> for PatientConnector {
    type Out = Either<In, PatientTransport>;

    fn connect(
        &self,
        details: &ConnectionDetails,
        chained: Option<In>,
    ) -> Result<Option<Self::Out>, Error> {
        if chained.is_some() {
            return Ok(chained.map(Either::A)); // through a proxy
        }
        let mut last = io::Error::from(io::ErrorKind::ConnectionRefused);
        for address in &details.addrs {
            let (address, limit) = (*address, self.limit);
            let connect = move || TcpStream::connect_timeout(&address, limit);
            match wait_for("no connection", limit, connect) {
                Ok(stream) => {
                    stream.set_nodelay(true)?;
                    stream.set_read_timeout(Some(SLICE))?;
                    stream.set_write_timeout(Some(SLICE))?;
                    let sizes = (details.config.input_buffer_size(), 128 << 10);
                    let buffers = LazyBuffers::new(sizes.0, sizes.1);
                    return Ok(Some(Either::B(PatientTransport { stream, buffers, limit })));
                }
                Err(error) => last = error,
            }
            check_stop()?;
        }
        Err(last.into())
    }
}

#[derive(Debug)]
struct PatientTransport {
    stream: TcpStream,
    buffers: LazyBuffers,
    limit: Duration,
}

/// Repeats `attempt` until it moves bytes, the limit is over or the caller wants an end.
fn patiently(
    what: &str,
    limit: Duration,
    mut attempt: impl FnMut() -> io::Result<usize>,
) -> io::Result<usize> {
    let begun = Instant::now();
    loop {
        check_stop()?;
        match attempt() {
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) if matches!(e.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => {
                if begun.elapsed() >= limit {
                    return Err(timed_out(what, limit));
                }
            }
            result => return result,
        }
    }
}

impl Transport for PatientTransport {
    fn buffers(&mut self) -> &mut dyn Buffers {
        &mut self.buffers
    }

    fn transmit_output(&mut self, amount: usize, _: NextTimeout) -> Result<(), Error> {
        let mut left = &self.buffers.output()[..amount];
        while !left.is_empty() {
            let stream = &mut self.stream;
            let sent = patiently("nothing could be sent", self.limit, || stream.write(left))?;
            if sent == 0 {
                return Err(io::Error::from(io::ErrorKind::WriteZero).into());
            }
            left = &left[sent..];
        }
        Ok(())
    }

    fn await_input(&mut self, _: NextTimeout) -> Result<bool, Error> {
        let (stream, room) = (&mut self.stream, self.buffers.input_append_buf());
        let amount = patiently("no byte has come", self.limit, || stream.read(room))?;
        self.buffers.input_appended(amount);
        Ok(amount > 0)
    }

    fn is_open(&mut self) -> bool {
        let closed_or_not_asked_for = |stream: &TcpStream| -> io::Result<bool> {
            stream.set_nonblocking(true)?;
            let peeked = stream.peek(&mut [0]);
            stream.set_nonblocking(false)?;
            Ok(!matches!(peeked, Err(e) if e.kind() == io::ErrorKind::WouldBlock))
        };
        !closed_or_not_asked_for(&self.stream).unwrap_or(true)
    }
}

/// The system's certificates, or those that SSL_CERT_FILE and SSL_CERT_DIR name; Mozilla's where
/// the system has none.
fn root_certificates() -> Result<RootCerts, String> {
    let given = |name| std::env::var_os(name).filter(|value| !value.is_empty());
    let (file, folder) = (given("SSL_CERT_FILE"), given("SSL_CERT_DIR"));
    let found = rustls_native_certs::load_native_certs();
    let missing = file.as_ref().is_some_and(|f| !Path::new(f).is_file());
    let own = file.is_some() || folder.is_some();
    if missing || (own && found.certs.is_empty()) {
        let why = found.errors.first().map_or("none is there".to_string(), |e| e.to_string());
        return Err(format!("SSL_CERT_FILE or SSL_CERT_DIR: no certificate could be read: {why}"));
    }
    if found.certs.is_empty() {
        return Ok(RootCerts::WebPki);
    }
    let certificates: Vec<_> =
        found.certs.iter().map(|c| Certificate::from_der(c).to_owned()).collect();
    Ok(RootCerts::new_with_certs(&certificates))
}

type MadeAgent = Result<Agent, String>;

pub struct Client {
    user_agent: String,
    limit: Duration,
    // Of http and https, without and with a proxy; made when they are first needed, since reading
    // certificates takes time.
    agents: [OnceLock<MadeAgent>; 4],
}

impl Client {
    fn new(user_agent: String, limit: Duration) -> Self {
        Client { user_agent, limit, agents: Default::default() }
    }

    fn made(&self, tls: bool, proxy: Option<Proxy>) -> MadeAgent {
        // A proxy may be at an https address, too.
        let secret = tls || proxy.as_ref().is_some_and(|p| p.protocol() == ProxyProtocol::Https);
        let certificates = if secret { root_certificates()? } else { RootCerts::WebPki };
        let config = Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .max_response_header_size(MOST_OF_HEADERS)
            .max_idle_connections_per_host(8)
            .user_agent(self.user_agent.as_str())
            .accept("*/*")
            .accept_encoding("identity")
            .proxy(proxy)
            .tls_config(TlsConfig::builder().root_certs(certificates).build())
            .build();
        let connector = ()
            .chain(ConnectProxyConnector::default())
            .chain(PatientConnector { limit: self.limit })
            .chain(RustlsConnector::default());
        Ok(Agent::with_parts(config, connector, PatientResolver { limit: self.limit }))
    }

    /// The agent for an address, and the variable that names its proxy, if it has one.
    fn agent(&self, url: &str) -> Result<(&Agent, Option<&'static str>), String> {
        let uri: Uri = url.parse().map_err(|_| "is no address")?;
        let tls = uri.scheme_str() == Some("https");
        let port = uri.port_u16().unwrap_or(if tls { 443 } else { 80 });
        let host = uri.host().unwrap_or_default();
        let found = proxy_for(tls, host, port, |name| std::env::var(name).ok())?;
        let variable = found.as_ref().map(|f| f.variable);
        let place = &self.agents[usize::from(tls) + 2 * usize::from(found.is_some())];
        let made = place.get_or_init(|| self.made(tls, found.map(|f| f.proxy)));
        made.as_ref().map(|agent| (agent, variable)).map_err(Clone::clone)
    }

    fn send(&self, method: &str, url: &str, headers: &str, body: Body) -> Result<Answer, String> {
        let mut request = Request::builder().method(method).uri(url);
        for line in headers.lines() {
            let (name, value) = line.split_once(": ").ok_or("a header without a value")?;
            request = request.header(name, value);
        }
        let (agent, proxy) = self.agent(url)?;
        let response = if body.pull.is_some() {
            request = request.header("Content-Length", body.size);
            let mut pulled = Pulled { left: body.size, body: &body };
            let content = SendBody::from_reader(&mut pulled);
            agent.run(request.body(content).map_err(|e| e.to_string())?)
        } else {
            agent.run(request.body(()).map_err(|e| e.to_string())?)
        };
        let response = response.map_err(|e| explained(&e, proxy))?;
        let (parts, body) = response.into_parts();
        Ok(Answer { head: Response::from_parts(parts, ()), body: body.into_reader() })
    }
}

/// An error, with what the user can do about proxies and certificates.
fn explained(error: &Error, proxy: Option<&str>) -> String {
    let mut text = error.to_string();
    if text.contains("407") {
        if let Some(variable) = proxy {
            text += &format!(
                "; the proxy of {variable} asks who is there: http://USER:PASSWORD@HOST:PORT"
            );
            return text;
        }
    }
    if text.contains("UnknownIssuer") {
        text += "; SSL_CERT_FILE may name a file with the certificate of the authority";
    }
    if let Some(variable) = proxy {
        text += &format!(" (through the proxy of {variable})");
    }
    text
}

/// The body of a request, from the caller.
struct Pulled<'a> {
    left: u64,
    body: &'a Body,
}

impl Read for Pulled<'_> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let room = out.len().min(usize::try_from(self.left).unwrap_or(usize::MAX));
        let (Some(pull), true) = (self.body.pull, room > 0) else { return Ok(0) };
        // SAFETY: the header promises that the function writes at most `room` bytes.
        let size = unsafe { pull(self.body.context, out.as_mut_ptr(), room) };
        if size == 0 || size > room {
            return Err(io::Error::other("the bytes to send cannot be read"));
        }
        self.left -= size as u64;
        Ok(size)
    }
}

pub struct Answer {
    head: Response<()>,
    body: BodyReader<'static>,
}

impl Answer {
    fn headers(&self) -> String {
        let line = |(name, value): (&ureq::http::HeaderName, &ureq::http::HeaderValue)| {
            let value = String::from_utf8_lossy(value.as_bytes()).replace(['\r', '\n'], " ");
            format!("{name}: {value}\n")
        };
        self.head.headers().iter().map(line).collect()
    }
}

// Safety of all functions below: as in lib.rs.

#[no_mangle]
pub unsafe extern "C" fn lewis_http_client_new(
    user_agent: *const u8,
    user_agent_size: usize,
    wait_ms: u64,
    client: *mut *mut Client,
    error: *mut Text,
) -> bool {
    guard(error, || {
        let user_agent = str_arg(user_agent, user_agent_size)?.to_string();
        let limit = Duration::from_millis(wait_ms);
        *client = Box::into_raw(Box::new(Client::new(user_agent, limit)));
        Ok(())
    })
}

#[no_mangle]
pub unsafe extern "C" fn lewis_http_client_free(client: *mut Client) {
    take(client);
}

#[no_mangle]
pub unsafe extern "C" fn lewis_http_send(
    client: *const Client,
    method: *const u8,
    method_size: usize,
    url: *const u8,
    url_size: usize,
    headers: *const u8,
    headers_size: usize,
    body: Body,
    stop: Stop,
    response: *mut *mut Answer,
    error: *mut Text,
) -> bool {
    guard(error, || {
        let method = str_arg(method, method_size)?;
        let url = str_arg(url, url_size)?;
        let headers = str_arg(headers, headers_size)?;
        let answer = with_stop(stop, || (*client).send(method, url, headers, body))?;
        *response = Box::into_raw(Box::new(answer));
        Ok(())
    })
}

#[no_mangle]
pub unsafe extern "C" fn lewis_http_status(response: *const Answer) -> u32 {
    u32::from((*response).head.status().as_u16())
}

#[no_mangle]
pub unsafe extern "C" fn lewis_http_headers(
    response: *const Answer,
    headers: *mut Text,
    error: *mut Text,
) -> bool {
    guard(error, || {
        *headers = Text::new((*response).headers());
        Ok(())
    })
}

#[no_mangle]
pub unsafe extern "C" fn lewis_http_read(
    response: *mut Answer,
    out: *mut u8,
    room: usize,
    stop: Stop,
    size: *mut usize,
    error: *mut Text,
) -> bool {
    guard(error, || {
        let out = std::slice::from_raw_parts_mut(out, room);
        *size = with_stop(stop, || (*response).body.read(out)).map_err(|e| e.to_string())?;
        Ok(())
    })
}

#[no_mangle]
pub unsafe extern "C" fn lewis_http_response_free(response: *mut Answer) {
    take(response);
}
