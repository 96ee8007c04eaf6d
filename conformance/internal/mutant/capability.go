package mutant

func capabilityMutants() []Mutant { return nil }
