package mutant

func resilienceMutants() []Mutant { return nil }
