import type { Session } from "@supabase/auth-js";
import { useQueryClient } from "@tanstack/react-query";
import { lazy, Suspense, useEffect, useState } from "react";
import { useConsole } from "./console_context.tsx";
import { SignInPage } from "./pages/sign_in.tsx";
import { PageFailure } from "./parts/error_boundary.tsx";
import { Waiting } from "./parts/waiting.tsx";
import { beginSession, isLeaving, markSessionOver } from "./session.ts";

// Who has yet to sign in downloads no page.
const SignedIn = lazy(() => import("./signed_in.tsx"));

/** Undefined until it is known whether somebody is signed in. */
function useSession(): Session | null | undefined {
  const { auth } = useConsole();
  const [session, setSession] = useState<Session | null>();
  useEffect(() => {
    auth.getSession().then(({ data }) => setSession(data.session));
    const { data } = auth.onAuthStateChange((_event, next) => setSession(next));
    return () => data.subscription.unsubscribe();
  }, [auth]);
  return session;
}

export function App() {
  const session = useSession();
  const queries = useQueryClient();
  /** Whose pages are shown; they stay where the session ends by itself, so that nothing typed is lost. */
  const [userId, setUserId] = useState<string | null>(null);
  useEffect(() => {
    if (session) {
      beginSession();
      // What one person saw is not shown to the next one.
      if (userId !== null && userId !== session.user.id) queries.clear();
      setUserId(session.user.id);
      queries.invalidateQueries();
    } else if (session === null) {
      if (isLeaving()) setUserId(null);
      else if (userId !== null) markSessionOver();
    }
  }, [session, queries]);
  useEffect(() => {
    if (userId === null) queries.clear();
  }, [userId, queries]);
  if (session === undefined) return <Waiting />;
  if (userId === null) return session === null ? <SignInPage /> : <Waiting />;
  return (
    <PageFailure>
      <Suspense fallback={<Waiting />}>
        <SignedIn key={userId} />
      </Suspense>
    </PageFailure>
  );
}
