// Package render turns answers of the broker into what people and programs
// read: aligned tables, relative times, and JSON with the field names of the
// contract. It writes to the given writer only and keeps no state.
package render
