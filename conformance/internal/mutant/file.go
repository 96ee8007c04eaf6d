package mutant

func fileMutants() []Mutant { return nil }
