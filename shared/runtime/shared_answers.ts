/** Asks once for all who want to know the same thing while the question is under way. */
export function sharedAnswers<Answer>(): (key: string, ask: () => Promise<Answer>) => Promise<Answer> {
  const underWay = new Map<string, Promise<Answer>>();
  return (key, ask) => {
    const before = underWay.get(key);
    if (before !== undefined) return before;
    const answer = ask().finally(() => underWay.delete(key));
    underWay.set(key, answer);
    return answer;
  };
}
