package cli

// grammar is every command and flag; the parser, the help and the completion
// are made from it.
type grammar struct {
	Server       string `help:"Broker to use: unix:///path or https://host. Default: your own, started when needed. A key or a token for it comes from SANDBAR_API_KEY." env:"SANDBAR_SERVER" placeholder:"ADDRESS"`
	ActingTenant string `name:"tenant" help:"Tenant to act for, if you are an admin; * for every one at once." env:"SANDBAR_TENANT" placeholder:"NAME"`
	JSON         bool   `name:"json" help:"Print JSON, errors too."`

	Run   runCmd   `cmd:"" group:"Run" help:"Run one command in a new sandbox, then remove the sandbox."`
	Exec  execCmd  `cmd:"" group:"Run" help:"Run a command in a sandbox."`
	Shell shellCmd `cmd:"" group:"Run" help:"Open a shell in a sandbox, or in a new one."`
	Ps    psCmd    `cmd:"" group:"Run" help:"List the commands of a sandbox."`
	Logs  logsCmd  `cmd:"" group:"Run" help:"Show what a command wrote."`
	Kill  killCmd  `cmd:"" group:"Run" help:"Send a signal to a command."`

	Create  createCmd  `cmd:"" group:"Sandboxes" help:"Create a sandbox."`
	Explain explainCmd `cmd:"" group:"Sandboxes" help:"Show why a sandbox is on its provider."`
	Ls      lsCmd      `cmd:"" group:"Sandboxes" aliases:"list" help:"List sandboxes."`
	Get     getCmd     `cmd:"" group:"Sandboxes" help:"Show a sandbox."`
	Rm      rmCmd      `cmd:"" group:"Sandboxes" help:"Remove sandboxes."`
	Pause   pauseCmd   `cmd:"" group:"Sandboxes" help:"Pause a sandbox."`
	Resume  resumeCmd  `cmd:"" group:"Sandboxes" help:"Resume a paused sandbox."`
	Extend  extendCmd  `cmd:"" group:"Sandboxes" help:"Let a sandbox live longer."`
	Fork    forkCmd    `cmd:"" group:"Sandboxes" help:"Make copies of a running sandbox."`

	Move     moveCmd     `cmd:"" group:"Sandboxes" help:"Move a sandbox's files to a new one on another provider, and end it."`
	Snapshot snapshotCmd `cmd:"" group:"Sandboxes" help:"Create, list and remove snapshots; export and inspect portable ones."`
	Restore  restoreCmd  `cmd:"" group:"Sandboxes" help:"Make a sandbox from a snapshot."`

	Cp     cpCmd     `cmd:"" group:"Files and ports" help:"Copy files into and out of a sandbox."`
	Diff   diffCmd   `cmd:"" group:"Files and ports" help:"Show which files a sandbox changed."`
	Volume volumeCmd `cmd:"" group:"Files and ports" help:"Create, list and remove volumes."`
	Ports  portsCmd  `cmd:"" group:"Files and ports" help:"List the ports that listen in a sandbox."`
	Port   portCmd   `cmd:"" group:"Files and ports" aliases:"port-forward" help:"Forward a local port to a port in a sandbox."`

	Whoami whoamiCmd `cmd:"" group:"Access" help:"Show who the broker takes you for, and what you may do."`
	Key    keyCmd    `cmd:"" group:"Access" help:"Make, list and revoke API keys."`
	Tenant tenantCmd `cmd:"" name:"tenant" group:"Access" help:"Create, change, list and remove tenants."`

	Cost        costCmd        `cmd:"" group:"System" help:"Show what sandboxes used and cost."`
	Events      eventsCmd      `cmd:"" group:"System" help:"Show what happens to sandboxes."`
	Webhook     webhookCmd     `cmd:"" group:"System" help:"Tell URLs what happens: make, list, test and remove webhooks."`
	Top         topCmd         `cmd:"" group:"System" help:"Show how providers fare, live: sandboxes, rates, failures, times."`
	Providers   providersCmd   `cmd:"" group:"System" help:"List providers."`
	Doctor      doctorCmd      `cmd:"" group:"System" help:"Check whether sandboxes can work here."`
	Serve       serveCmd       `cmd:"" group:"System" help:"Run a broker."`
	Daemon      daemonCmd      `cmd:"" group:"System" help:"Show or stop your own broker."`
	Plugin      pluginCmd      `cmd:"" group:"System" help:"List, inspect and verify provider plugins."`
	Conformance conformanceCmd `cmd:"" group:"System" help:"Test whether a provider keeps the contract."`
	Simulator   simulatorCmd   `cmd:"" group:"System" help:"Simulate a vendor's API, to try its provider without an account."`
	Bench       benchCmd       `cmd:"" group:"System" help:"Measure a broker and its provider, and whether anything is left."`
	Version     versionCmd     `cmd:"" group:"System" help:"Show the version."`
	Completion  completionCmd  `cmd:"" group:"System" help:"Print a completion script for a shell."`
	Mutant      mutantCmd      `cmd:"" name:"__mutant" hidden:"" help:"Serve a provider with a bug, for tests of the suite."`
	Complete    completeCmd    `cmd:"" name:"__complete" hidden:"" help:"Answer a completion script."`
}
