//! The local application's way to a machine.

use std::fmt;

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
        Ok(self.request_numbered(request).await?.1)
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
        let (sender, reply) = oneshot::channel();
        self.post(Mail::Request(request, sender)).await?;
        reply.await.map_err(|_| Gone)
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
        let (sender, reply) = oneshot::channel();
        self.mail.try_send(Mail::Request(request, sender)).map_err(|error| match error {
            NotSent::Full(_) => Refused::Full,
            NotSent::Closed => Refused::Gone,
        })?;
        Ok(async { reply.await.map(|(_, reply)| reply).map_err(|_| Gone) })
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
        self.post(Mail::Look(look)).await?;
        seen.await.map_err(|_| Gone)
    }

    /// Waits only where there is no room.
    async fn post(&self, mail: Mail<M>) -> Result<(), Gone> {
        let sent = match self.mail.try_send(mail) {
            Ok(()) => true,
            Err(NotSent::Full(mail)) => self.mail.send(mail).await,
            Err(NotSent::Closed) => false,
        };
        sent.then_some(()).ok_or(Gone)
    }

    /// What the machine tells unasked, from now on. A receiver that falls behind is told how many
    /// events it missed; it never holds the machine up.
    #[must_use]
    pub fn events(&self) -> broadcast::Receiver<M::Event> {
        self.events.subscribe()
    }
}
