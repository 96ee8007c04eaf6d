// Package vendors proves what a broker promises of several vendors, each by its own
// provider against its simulator, through the real binaries.
package vendors
