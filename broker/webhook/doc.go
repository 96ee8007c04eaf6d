// Package webhook tells URLs what happens, by the Standard Webhooks
// specification (https://www.standardwebhooks.com): it keeps the webhooks of
// tenants and delivers the events of the durable log to them.
//
// A webhook has a cursor in the log. The next event that it wants is posted until
// the receiver takes it, and only then the cursor moves; so each event is
// delivered at least once and in order, whatever ends the broker in between, and
// the message of an event has the event's cursor as its id, by which a receiver
// knows a repetition. Of the brokers that share a store, one delivers to a
// webhook at a time.
//
// A URL is a tenant's choice and the connection is the broker's, so the address is
// checked when it is connected to, after its name was looked up. Secrets are in no
// error, no log and no listing; nor is anything that a receiver answers, beside
// the status.
//
// A Service owns one goroutine, and one more for each webhook that it delivers
// to, until Close.
package webhook
