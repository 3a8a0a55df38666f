//! The local application's way to a machine.

use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll};

use quorate_transport::{Machine, RequestId};
use thiserror::Error;
use tokio::sync::{broadcast, oneshot};

use crate::mailbox::{NotSent, Slit};

/// The node has stopped, or this machine has: whether the request was carried out is not known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("the node has stopped; whether the request was carried out is not known")]
pub struct Gone;

/// Why a request was not taken in. Nothing of it will happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum Refused {
    /// The mailbox is full: ask again later.
    #[error("the mailbox is full")]
    Full,
    /// The node has stopped.
    #[error("the node has stopped")]
    Gone,
}

/// Where an answer goes, with the number of the request.
pub(crate) type Answered<M> = oneshot::Sender<(RequestId, <M as Machine>::Reply)>;

/// What a handle sends to the engine.
pub(crate) enum Mail<M: Machine> {
    Request(M::Request, Answered<M>),
    Look(Box<dyn FnOnce(&M) + Send>),
}

/// A request on its way, and where its answer comes.
fn asking<M: Machine>(request: M::Request) -> (Mail<M>, oneshot::Receiver<(RequestId, M::Reply)>) {
    let (sender, answer) = oneshot::channel();
    (Mail::Request(request, sender), answer)
}

/// Waits only where there was no room: a box then, for that is rare and the wait is large.
struct Posted<'a>(Option<Pin<Box<dyn Future<Output = bool> + Send + 'a>>>);

impl Future for Posted<'_> {
    type Output = Result<(), Gone>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match &mut self.0 {
            None => Poll::Ready(Ok(())),
            Some(sent) => sent.as_mut().poll(cx).map(|sent| sent.then_some(()).ok_or(Gone)),
        }
    }
}

/// A machine of a running node. Clones share it.
pub struct Handle<M: Machine> {
    mail: Slit<Mail<M>>,
    events: broadcast::Sender<M::Event>,
}

impl<M: Machine> Clone for Handle<M> {
    fn clone(&self) -> Self {
        Self { mail: self.mail.clone(), events: self.events.clone() }
    }
}

impl<M: Machine> fmt::Debug for Handle<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Handle").field("mail", &self.mail).finish_non_exhaustive()
    }
}

impl<M: Machine> Handle<M> {
    pub(crate) fn new(mail: Slit<Mail<M>>, events: broadcast::Sender<M::Event>) -> Self {
        Self { mail, events }
    }

    /// Asks the machine, and waits for the one answer. Waits as well while the mailbox is full.
    ///
    /// # Errors
    /// [`Gone`] when the node or the machine stops first.
    ///
    /// # Cancel safety
    /// Dropping the future cancels nothing that the machine has taken in: the request is carried
    /// out all the same, and its answer is dropped.
    pub async fn request(&self, request: M::Request) -> Result<M::Reply, Gone> {
        // Spelled out, as below: a future within a future holds the request twice, and every client
        // has one of these.
        let (mail, answer) = asking(request);
        self.post(mail)?.await?;
        answer.await.map(|(_, reply)| reply).map_err(|_| Gone)
    }

    /// As [`request`](Self::request), and says under which number the machine knows the request:
    /// the one by which it is released or cancelled, where the protocol has that.
    ///
    /// # Errors
    /// [`Gone`] when the node or the machine stops first.
    ///
    /// # Cancel safety
    /// As [`request`](Self::request).
    pub async fn request_numbered(
        &self,
        request: M::Request,
    ) -> Result<(RequestId, M::Reply), Gone> {
        let (mail, answer) = asking(request);
        self.post(mail)?.await?;
        answer.await.map_err(|_| Gone)
    }

    /// Asks the machine, unless the mailbox is full; the one answer comes later.
    ///
    /// # Errors
    /// [`Refused`]: nothing was asked. The answer is [`Gone`] when the node or the machine stops
    /// first.
    pub fn try_request(
        &self,
        request: M::Request,
    ) -> Result<impl Future<Output = Result<M::Reply, Gone>> + use<M>, Refused> {
        let (mail, answer) = asking(request);
        self.mail.try_send(mail).map_err(|error| match error {
            NotSent::Full(_) => Refused::Full,
            NotSent::Closed => Refused::Gone,
        })?;
        Ok(async { answer.await.map(|(_, reply)| reply).map_err(|_| Gone) })
    }

    /// Looks at the machine between two of its steps.
    ///
    /// # Errors
    /// [`Gone`] when the node stops first.
    ///
    /// # Cancel safety
    /// Safe: a look changes nothing.
    pub async fn look<T: Send + 'static>(
        &self,
        look: impl FnOnce(&M) -> T + Send + 'static,
    ) -> Result<T, Gone> {
        let (sender, seen) = oneshot::channel();
        let look = Box::new(move |machine: &M| drop(sender.send(look(machine))));
        self.post(Mail::Look(look))?.await?;
        seen.await.map_err(|_| Gone)
    }

    /// Posts a mail at once where there is room; what is returned waits for it elsewhere.
    fn post(&self, mail: Mail<M>) -> Result<Posted<'_>, Gone> {
        match self.mail.try_send(mail) {
            Ok(()) => Ok(Posted(None)),
            Err(NotSent::Full(mail)) => Ok(Posted(Some(Box::pin(self.mail.send(mail))))),
            Err(NotSent::Closed) => Err(Gone),
        }
    }

    /// What the machine tells unasked, from now on. A receiver that falls behind is told how many
    /// events it missed; it never holds the machine up.
    #[must_use]
    pub fn events(&self) -> broadcast::Receiver<M::Event> {
        self.events.subscribe()
    }
}
