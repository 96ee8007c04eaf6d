package subject

// Sandboxes returns the ids of all sandboxes that were asked for.
func (l *Ledger) Sandboxes() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	var out []string
	for _, o := range l.objects {
		if o.Kind == SandboxObject {
			out = append(out, o.ID)
		}
	}
	return out
}
